"""Every quantized layer packs, with every kind of quantizer: the same results from fewer bits."""

import copy
import warnings

import pytest
import torch
from quantizer_pairs import LSQ, PAIRS
from torch import nn

from ste_lightning import deploy, layers
from ste_lightning.convert import summary
from ste_lightning.deploy.export import export, integer_state_dict, runtime
from ste_lightning.deploy.export.torch_form import PlainNetwork
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.layers.torch_and_gpu import computed
from ste_lightning.deploy.report import layer_rows
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantizedLayer,
    QuantLinear,
    QuantMultiheadAttention,
)


class Attend(nn.Module):
    """Self-attention, then attention to the first two tokens; takes slices."""

    def __init__(self, **quantizers):
        super().__init__()
        self.first = QuantMultiheadAttention(8, 2, batch_first=True, **quantizers)
        self.second = QuantMultiheadAttention(8, 4, **quantizers)

    def forward(self, x):
        x = x + self.first(x, x, x, need_weights=False)[0]
        memory = x[:, :2].transpose(0, 1)
        return self.second(x.transpose(0, 1), memory, memory, is_causal=False)[0][-1, ..., 1:]


LAYERS = {
    "linear": (lambda **q: QuantLinear(37, 9, **q), (5, 37)),
    "conv1d": (lambda **q: QuantConv1d(6, 8, 3, padding=1, groups=2, **q), (2, 6, 9)),
    "conv2d": (
        lambda **q: QuantConv2d(5, 7, 3, stride=2, padding=1, padding_mode="circular", **q),
        (2, 5, 8, 7),
    ),
    "conv3d": (lambda **q: QuantConv3d(3, 4, 2, dilation=2, padding=1, **q), (2, 3, 5, 4, 6)),
    "transposed1d": (
        lambda **q: QuantConvTranspose1d(6, 4, 3, stride=2, output_padding=1, groups=2, **q),
        (2, 6, 5),
    ),
    "transposed2d": (
        lambda **q: QuantConvTranspose2d(
            4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), bias=False, **q
        ),
        (2, 4, 5, 6),
    ),
    "attention": (Attend, (3, 4, 8)),
    "embedding": (lambda weight_quantizer, input_quantizer: QuantEmbedding(
        11, 13, weight_quantizer=weight_quantizer), None),
}  # fmt: skip


def network(layer, quantizers):
    make, shape = LAYERS[layer]
    weight, inputs = PAIRS[quantizers]
    torch.manual_seed(0)
    net = nn.Sequential(make(weight_quantizer=weight, input_quantizer=inputs)).train()
    samples = (
        (lambda: torch.randint(0, 11, (4, 3))) if shape is None else lambda: torch.randn(shape)
    )
    for _ in range(3):
        net(samples())
    return net.eval(), samples()


@pytest.mark.parametrize("quantizers", PAIRS)
@pytest.mark.parametrize("layer", LAYERS)
def test_packed_equals_trained_saved_and_elsewhere(layer, quantizers, tmp_path):
    net, x = network(layer, quantizers)
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        expected = net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packed = deploy.pack(net)
    y = packed(x)
    assert y.dtype == expected.dtype
    assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    path = tmp_path / "net.safetensors"
    deploy.save(packed, path)
    loaded = deploy.load(path)
    assert torch.equal(loaded(x), y)
    assert (PlainNetwork(packed)(x) - y).abs().max() <= 1e-5 * expected.abs().max()
    # What a GPU computes, and torch where numba is missing: not nearly, but exactly the same.
    for module in packed.modules():
        if isinstance(module, (deploy.PackedLinear, deploy.PackedConv)):
            given = []
            handle = module.register_forward_pre_hook(lambda _, args, g=given: g.append(args[0]))
            packed(x)
            handle.remove()
            assert torch.equal(computed(module, given[0]), module(given[0]))


@pytest.mark.parametrize("layer", LAYERS)
def test_size_is_what_the_summary_promised(layer, tmp_path):
    net, x = network(layer, "scaled x steps")
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):  # zeros would be stored in half the bytes
            nn.init.normal_(parameter)
    packed = deploy.pack(net)
    deploy.save(packed, tmp_path / "net.safetensors")
    tensors, _ = unbundled(*tensor_file.read(tmp_path / "net.safetensors"))
    stored = sum(t.numel() * t.element_size() for t in tensors.values())
    promised = summary(net).deployed_bytes
    # Each plane of bits ends on a byte.
    assert promised - 8 <= stored <= promised + 8
    rows = layer_rows(packed, x)
    assert sum(row.bytes_packed for row in rows) >= stored
    assert all(row.bits.startswith("1x") for row in rows)


def test_products_are_counted_once():
    net, x = network("transposed2d", "binary")
    (row,) = layer_rows(deploy.pack(net), x)
    assert row.binary == 5 * 6 * 4 * 6 * 3 * 2
    net, x = network("attention", "binary")
    rows = layer_rows(deploy.pack(net), x)
    assert [r.name for r in rows[:4]] == [f"0.first.{n}_proj" for n in ("q", "k", "v", "out")]
    assert [r.binary for r in rows] == [4 * 64] * 5 + [2 * 64, 2 * 64, 4 * 64]


def test_integers_have_the_layout_of_the_torch_layer():
    net, _ = network("transposed1d", "binary")
    found = integer_state_dict(deploy.pack(net))
    assert torch.equal(found["0.weight"].float(), net[0].quantized_weight().detach())
    net, _ = network("attention", "binary")
    found = integer_state_dict(deploy.pack(net))
    whole = torch.cat([found[f"0.first.{n}_proj.weight"] for n in "qkv"])
    assert torch.equal(whole.float(), net[0].first.quantized_weight().detach())


FORMATS = ("torch_export", "onnx")
EXPORTS = [
    *[(format, layer) for format in FORMATS for layer in ("embedding", "transposed2d")],
    *[pytest.param(format, "attention", marks=pytest.mark.slow) for format in FORMATS],
]


@pytest.mark.parametrize(("format", "layer"), EXPORTS)
def test_exports(format, layer, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    net, x = network(layer, "ternary x 2 bit")
    packed = deploy.pack(net)
    path = export(packed, tmp_path / "net", format, x)
    run = runtime(path, format)
    for batch in (x, x[:1]):
        assert torch.allclose(run(batch), packed(batch), rtol=0, atol=1e-4)


def test_attention_takes_masks_and_quantizes_scores():
    torch.manual_seed(0)
    trained = QuantMultiheadAttention(
        8, 2, input_quantizer=LSQ, score_quantizer={"map": "uniform", "bits": 4}, batch_first=True
    )
    x = torch.randn(3, 5, 8)
    trained(x, x, x)
    trained.eval()

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = trained

        def forward(self, x, mask):
            return self.attention(x, x, x, attn_mask=mask, average_attn_weights=False)

    packed = deploy.pack(Masked())
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    with torch.no_grad():
        expected, weights = trained(x, x, x, attn_mask=mask, average_attn_weights=False)
    y, scores = packed(x, mask)
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.allclose(scores, weights, atol=1e-6)
    with pytest.raises(ConfigurationError, match="evaluation"):
        packed.layer("attention").train()


def test_embeddings_refuse_what_is_no_row_and_keep_a_largest_norm():
    layer = QuantEmbedding(5, 3, max_norm=1.0)
    packed = deploy.pack(nn.Sequential(layer))
    rows = torch.tensor([4, 0, 4])
    with torch.no_grad():
        assert torch.allclose(packed(rows), layer(rows))
    with pytest.raises(ConfigurationError, match="5 rows"):
        packed(torch.tensor([5]))
    with pytest.raises(ConfigurationError, match="5 rows"):
        packed(torch.tensor([-1]))
    with pytest.raises(ConfigurationError, match="integers"):
        packed(torch.zeros(2))
    assert packed(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 3)


class Sized(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = QuantConvTranspose2d(4, 6, 3, stride=2, padding=1)

    def forward(self, x, size: int = 0):
        return self.up(x, output_size=[10, 9])


def test_a_transposed_convolution_takes_an_output_size():
    net, x = Sized(), torch.randn(2, 4, 5, 5)
    packed = deploy.pack(net)
    with torch.no_grad():
        assert torch.allclose(packed(x), net(x), atol=1e-5)
    layer = packed.layer("up")
    assert layer(x[0]).shape == (6, 9, 9)
    with pytest.raises(ConfigurationError, match="output_size"):
        layer(x, output_size=[20, 20])
    with pytest.raises(ConfigurationError, match="channels"):
        layer(torch.zeros(2, 3, 5, 5))


def test_no_layer_is_forgotten():
    """A new layer must find its way into this table."""
    tested = {type(m) for make, _ in LAYERS.values() for m in make(
        weight_quantizer="sign", input_quantizer="sign").modules()}  # fmt: skip
    public = [getattr(layers, name) for name in layers.__all__]
    quantized = {c for c in public if isinstance(c, type) and issubclass(c, QuantizedLayer)}
    presets = {c for c in quantized if any(issubclass(c, t) and c is not t for t in tested)}
    assert quantized - presets - {QuantizedLayer} <= tested
