"""Language models as GGUF: gguf's own reader finds the packed network's numbers, all of them."""

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.export import export, runtime
from ste_lightning.deploy.export.gguf_file import read_gguf, write
from ste_lightning.deploy.export.order import Order
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv1d, QuantEmbedding, QuantLinear

gguf = pytest.importorskip("gguf")

GROUPS = {"map": "uniform", "bits": 4, "group_size": 32}
SIGNS = {"map": "sign", "scale": "channel_mean"}


def test_every_number_is_read_back(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        QuantEmbedding(7, 256, weight_quantizer={"map": "uniform", "bits": 8}),
        nn.RMSNorm(256),
        QuantLinear(256, 512, weight_quantizer="bitnet", input_quantizer="token"),
        QuantLinear(512, 64, weight_quantizer="sign", input_quantizer="token", bias=False),
        QuantLinear(64, 32, weight_quantizer=GROUPS),
        QuantLinear(32, 32, weight_quantizer=SIGNS),
        nn.Linear(32, 5),
    ).eval()
    packed = deploy.pack(net, torch.randint(7, (2, 3)))
    packed.module[3].scale = torch.full((64,), 0.125)  # exact in float16
    path = export(packed, tmp_path / "net.gguf", "gguf", torch.zeros(1, 3, dtype=torch.long))
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    expected = {0: "Q8_0", 2: "TQ1_0", 3: "TQ1_0", 4: "Q4_0", 5: "Q4_0", 6: "F32"}
    assert {kinds[f"{i}.weight"] for i in expected} == set(expected.values())
    assert all(kinds[f"{i}.weight"] == kind for i, kind in expected.items())
    assert "3.scale" not in tensors  # the blocks have it
    signs = tensors["3.weight"]
    alone = gguf.quants.dequantize(signs.data, signs.tensor_type)
    assert torch.equal(torch.from_numpy(alone), packed.module[3].float_weight())
    found = read_gguf(path)
    for name, module in packed.module.named_modules():
        if isinstance(module, PackedLayer):
            assert torch.equal(found[f"{name}.weight"], module.float_weight())
    assert torch.equal(found["2.bias"], net[2].bias)
    assert torch.equal(found["6.weight"], net[6].weight)
    assert tensors["2.weight"].n_bytes == 512 * 54
    write(packed, tmp_path / "faster.gguf", Order(None, True), ternary="TQ2_0")
    (faster,) = (
        t for t in gguf.GGUFReader(tmp_path / "faster.gguf").tensors if t.name == "2.weight"
    )
    assert faster.n_bytes == 512 * 66
    assert torch.equal(read_gguf(tmp_path / "faster.gguf")["2.weight"], found["2.weight"])
    assert runtime(path, "gguf") is None


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (QuantLinear(33, 4), (2, 33), "multiple of 32"),
        (QuantConv1d(32, 4, 3), (2, 32, 5), "PackedConv"),
    ],
)  # fmt: skip
def test_what_blocks_cannot_hold_is_refused_by_name(layer, x, message, tmp_path):
    packed = deploy.pack(nn.Sequential(layer).eval(), torch.randn(x))
    with pytest.raises(ConfigurationError, match=message):
        export(packed, tmp_path / "net.gguf", "gguf", torch.randn(x))
    assert not list(tmp_path.iterdir())
