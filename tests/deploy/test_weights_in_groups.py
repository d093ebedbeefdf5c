"""Weights whose groups have scales of their own are packed as they were trained."""

import json

import pytest
import torch
from torch import nn

from ste_lightning import deploy, kernels
from ste_lightning.convert import summary
from ste_lightning.deploy.export import export, integer_state_dict, runtime
from ste_lightning.deploy.export.torch_form import PlainNetwork
from ste_lightning.deploy.file.schema import build, describe
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.report import layer_rows
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantLinear,
    QuantMultiheadAttention,
)
from ste_lightning.quantizers import Quantizer

LSQ = {"map": "lsq", "bits": 4, "group_size": 4}
MAPS = {
    "uniform": ({"map": "uniform", "bits": 4}, "token"),
    "affine": ({"map": "uniform", "bits": 3, "symmetric": False}, {"map": "uniform", "bits": 8}),
    "lsq": (LSQ, {"map": "lsq", "bits": 4}),
    "bitnet": ({"map": "bitnet"}, "token"),
    "ternary": ({"map": "ternary"}, "sign"),
    "twn": ({"map": "twn"}, None),
}


class Attend(nn.Module):
    def __init__(self, **quantizers):
        super().__init__()
        self.inner = QuantMultiheadAttention(8, 2, batch_first=True, **quantizers)

    def forward(self, x):
        return self.inner(x, x, x)[0]


LAYERS = {
    "conv1d": (lambda **q: QuantConv1d(8, 6, 3, padding=1, padding_mode="reflect", **q), (2, 8, 9)),
    "conv2d": (lambda **q: QuantConv2d(8, 6, 3, padding=1, groups=2, **q), (2, 8, 6, 5)),
    "transposed": (lambda **q: QuantConvTranspose2d(8, 6, 2, 2, groups=2, **q), (2, 8, 3, 4)),
    "attention": (Attend, (2, 5, 8)),
    "embedding": (lambda weight_quantizer, input_quantizer: QuantEmbedding(
        11, 12, weight_quantizer=weight_quantizer, max_norm=2.0), None),
}  # fmt: skip


def packed_alike(net, x, folder):
    """Check trained = packed = loaded = exported form; return the packed network."""
    with torch.no_grad():
        net.train()(x)
        wanted = net.eval()(x)
    packed = deploy.pack(net, x)
    y = packed(x)
    assert (y - wanted).abs().max() <= 1e-6 * wanted.abs().max()
    size = deploy.save(packed, folder / "net.safetensors")
    assert size <= 1.05 * summary(net).deployed_bytes + 8192
    assert torch.equal(deploy.load(folder / "net.safetensors")(x), y)
    assert (PlainNetwork(packed)(x) - y).abs().max() <= 1e-5 * wanted.abs().max()
    return packed


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("name", MAPS)
def test_every_map_inside_a_network(name, size, tmp_path):
    weight, inputs = MAPS[name]
    torch.manual_seed(0)
    grouped = {"weight_quantizer": {**weight, "group_size": size}, "input_quantizer": inputs}
    net = nn.Sequential(
        QuantLinear(12, 64, weight_quantizer="bitnet", input_quantizer=LSQ | {"group_size": None}),
        *(nn.BatchNorm1d(64), nn.ReLU(), QuantLinear(64, 96, **grouped)),
        *(nn.BatchNorm1d(96), nn.ReLU(), QuantLinear(96, 8), nn.ReLU(), QuantLinear(8, 8)),
    )
    x = torch.randn(20, 12)
    packed = packed_alike(net, x, tmp_path)
    layer = packed.module[3]
    assert layer.scale.shape == (96, 64 // size)
    assert torch.equal(layer.float_weight(), net[3].quantized_weight())
    row = next(row for row in layer_rows(packed, x) if row.name == "3")
    assert "in groups" in row.bits or inputs is None
    assert row.integer == 64 * 96
    assert integer_state_dict(packed)["3.scale"].shape == (96, 64 // size)


@pytest.mark.skipif(kernels.default_format() == "torch", reason="floats without compiled code")
@pytest.mark.parametrize("inputs", [{"map": "uniform", "bits": 8}, "token"])
def test_groups_are_sums_of_integers(inputs):
    torch.manual_seed(0)
    layer = QuantLinear(256, 3, bias=False, weight_quantizer=LSQ | {"group_size": 128},
                        input_quantizer=inputs)  # fmt: skip
    levels = torch.randint(1, 8, (3, 2, 64))
    levels = torch.cat([levels, -levels], 2)[..., torch.randperm(128)]
    with torch.no_grad():
        layer.train()(torch.randn(4, 256))
        steps = torch.tensor([[0.1, 0.3], [1 / 3, 1e-3], [0.7, 7.1]])
        layer.weight_quantizer.scale.copy_(steps.view_as(layer.weight_quantizer.scale))
        layer.weight.copy_((levels * steps[..., None]).view(3, 256))
    packed = deploy.pack(nn.Sequential(layer))
    assert torch.equal(packed.module[0].integer_weight().view(3, 2, 128).long(), levels)
    x = torch.tensor([[0.3], [0.77], [-1.9]]).expand(3, 256)
    assert not packed(x).any()  # floats leave a rest: their products are rounded
    assert packed(x[:0]).shape == (0, 3)
    assert packed(x.view(3, 1, 256)).shape == (3, 1, 3)


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer(name, tmp_path):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    inputs = {"map": "lsq", "bits": 4}
    net = nn.Sequential(make(weight_quantizer=LSQ, input_quantizer=inputs), nn.ReLU())
    x = torch.randint(0, 11, (4, 3)) if shape is None else torch.randn(shape)
    packed_alike(net, x, tmp_path)


def test_onnx_files_hold_integers_and_a_scale_per_group(tmp_path):
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), QuantLinear(64, 32, weight_quantizer=LSQ))
    x = torch.randn(3, 8)
    packed = packed_alike(net, x, tmp_path)
    run = runtime(export(packed, tmp_path / "net.onnx", "onnx", x), "onnx")
    assert torch.allclose(torch.as_tensor(run(x)), packed(x), atol=1e-5)


class OneEach(Quantizer):
    """A scale for each weight."""

    bits = 2

    def quantize(self, x):
        return x

    def integer_levels(self, x):
        return x.sign().int(), x.abs()


def test_scales_that_are_no_groups_are_refused_and_so_are_files_of_them():
    with pytest.raises(ConfigurationError, match="scales of their own"):
        deploy.pack(nn.Sequential(QuantLinear(4, 4, weight_quantizer=OneEach())))
    layer = deploy.pack(nn.Sequential(QuantLinear(8, 4, weight_quantizer=LSQ))).module[0]
    spec = json.loads(json.dumps(describe(layer)))
    built = build("0", spec)
    assert isinstance(built, PackedLayer)
    assert built.scale.shape == (4, 2)
    for wrong in (3, -2, 1 << 30):
        spec["settings"]["scaled"] = wrong
        with pytest.raises(ConfigurationError, match=r"weights of an output|whole numbers"):
            build("0", spec)
