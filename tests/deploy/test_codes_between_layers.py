"""Codes of several bits between packed layers: every code is the one that training computes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_pairs import both, calls, coded, exact, in_formats, quantizers
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.fusion.code_layers import Coded
from ste_lightning.deploy.fusion.requantize import gives_integers
from ste_lightning.deploy.layers.input_quantizers import LevelsInput
from ste_lightning.kernels import Codes, default_format
from ste_lightning.kernels.epilogue.threshold_table import LINES, table_of
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.layers import QuantConv2d, QuantLinear, RPReLU, RSign

pytestmark = pytest.mark.skipif(default_format() == "torch", reason="numba is missing")
FORMATS = ["bytes", "words", *(["lookup"] if has_avx2() else [])]


STEPS = st.sampled_from([1, 2, 3, 4])
WEIGHTS = st.sampled_from(["sign", "ternary", 2, 3, 4, 8])
ACTIVATIONS = {
    "none": lambda channels: [],
    "relu": lambda channels: [nn.ReLU()],
    "clipped": lambda channels: [nn.Hardtanh(-1.0, 2.0)],
    "prelu": lambda channels: [nn.PReLU(channels)],
    "shifted": lambda channels: [RPReLU(channels)],
    "tanh": lambda channels: [nn.Tanh()],
    "rsign": lambda channels: [RSign(channels)],
}


LAYERS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 2),
    }
)
POOLS = st.one_of(
    st.none(),
    st.builds(
        lambda size, stride, pad: nn.MaxPool2d(size, stride, min(pad, size // 2)),
        *(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1)),
    ),
)


def between(channels, pool, norm, activation, late):
    """What is called between two layers."""
    norms = [nn.BatchNorm2d(channels)] if norm else []
    elementwise = [*norms, *ACTIVATIONS[activation](channels)]
    pools = [] if pool is None else [pool]
    return [*elementwise, *pools] if late else [*pools, *elementwise]


@given(
    layers=st.tuples(LAYERS, LAYERS),
    bits=st.tuples(STEPS, STEPS, STEPS),
    weights=st.tuples(WEIGHTS, WEIGHTS, WEIGHTS),
    signed=st.booleans(),
    pools=st.tuples(POOLS, POOLS),
    late=st.booleans(),
    norm=st.booleans(),
    activation=st.sampled_from(list(ACTIVATIONS)),
    groups=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 5), (1, "depthwise")]),
    width=st.sampled_from([1, 3, 4, 7]),
    bias=st.booleans(),
    images=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=10, deadline=None)
def test_random_chains(
    layers, bits, weights, signed, pools, late, norm, activation, groups, width, bias, images, seed
):  # fmt: skip
    torch.manual_seed(seed)
    first, second = groups
    inner = width * 10
    second = inner if second == "depthwise" else second
    kinds = [quantizers(w, b, signed) for w, b in zip(weights, bits, strict=True)]
    network = nn.Sequential(
        QuantConv2d(3 * first, inner, groups=first, bias=bias, **layers[0], **kinds[0]),
        *between(inner, pools[0], norm, activation, late),
        QuantConv2d(inner, inner, groups=second, bias=bias, **layers[1], **kinds[1]),
        *between(inner, pools[1], norm, activation, late),
        nn.Flatten(),
        nn.LazyLinear(7, bias=False),
    )
    x = torch.randn(images, 3 * first, 37, 35)
    features = network[:-1](x).shape[1]
    network[-1] = QuantLinear(features, 7, bias=False, **kinds[2])
    exact(network, seed)
    for packed in in_formats(network, FORMATS, x):
        expected, found = both(network, x, packed)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("weight", [1, 2, 4])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_every_layer_of_a_chain_passes_codes(weight, bits):
    """Batch norms disappear, and whole images of codes equal those in training."""
    torch.manual_seed(0)
    kinds = quantizers(weight if weight > 1 else "sign", bits, False)
    network = exact(
        nn.Sequential(
            QuantConv2d(3, 32, 3, padding=1, **kinds),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            QuantConv2d(32, 48, 3, padding=1, **kinds),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Flatten(),
            QuantLinear(48 * 16, 50, **kinds),
            nn.BatchNorm1d(50),
            QuantLinear(50, 40, **kinds),
            nn.BatchNorm1d(40),
            nn.ReLU(),
            nn.Linear(40, 10),
        ),
        0,
    )
    packed = deploy.pack(network)
    for rows in (1, 2, 40):
        x = torch.randn(rows, 3, 16, 16)
        expected, found = both(network, x, packed)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not any(getattr(call, "__name__", "") == "batch_norm" for call in calls(packed))
    if bits == 1 and weight <= 4:
        return  # those are bits
    assert coded(packed) == 3
    seen = []
    for module in network:
        if isinstance(module, (QuantConv2d, QuantLinear)):
            module.register_forward_pre_hook(
                lambda m, args: seen.append(m.input_quantizer.integer_levels(args[0])[0])
            )
    x = torch.randn(500, 3, 16, 16)
    network(x)
    codes = []
    for call in calls(packed):
        x = call(x)
        if isinstance(x, Coded):
            codes.append(x.codes.movedim(-1, 1))
    images = [codes[1], codes[3], codes[-1]]
    for levels, found in zip(seen[1:], images, strict=True):
        assert torch.equal(levels.flatten(1), found.flatten(1).int())


def test_bits_into_a_depthwise_convolution():
    torch.manual_seed(0)
    kinds = quantizers("sign", 1, True)
    network = exact(
        nn.Sequential(
            QuantConv2d(3, 40, 3, bias=False, **kinds),
            nn.BatchNorm2d(40),
            QuantConv2d(40, 40, 3, padding=1, groups=40, bias=False, pad_value=-1.0, **kinds),
            nn.BatchNorm2d(40),
            QuantConv2d(40, 24, 1, bias=False, **kinds),
        ),
        0,
    )
    packed = deploy.pack(network)
    expected, found = both(network, torch.randn(3, 3, 13, 11), packed)
    assert torch.equal(found, expected)
    assert coded(packed) == 1


def four_bits():
    torch.manual_seed(0)
    kinds = quantizers(4, 4, False)
    return exact(
        nn.Sequential(
            QuantConv2d(3, 20, 3, padding=1, **kinds),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(20),
            QuantConv2d(20, 24, 3, padding=1, **kinds),
            nn.BatchNorm2d(24),
            nn.Flatten(),
            QuantLinear(24 * 30, 9, **kinds),
        ),
        0,
    )


def test_files_keep_the_codes(tmp_path):
    network, x = four_bits(), torch.randn(3, 3, 12, 10)
    packed = deploy.pack(network)
    expected, found = both(network, x, packed)
    assert torch.equal(found, expected)
    deploy.save(packed, tmp_path / "net.safetensors")
    for other in (copy.deepcopy(packed), deploy.load(tmp_path / "net.safetensors")):
        assert torch.equal(other(x), expected)
        assert coded(other) == 2


@pytest.mark.parametrize("watched", ["0", "1", "3", "6"])
def test_watched_modules_see_floats(watched):
    network, x = four_bits(), torch.randn(2, 3, 12, 10)
    packed = deploy.pack(network)
    expected = packed(x)
    seen = []
    packed.layer(watched).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    assert torch.equal(packed(x), expected)
    assert len(seen) == 1
    assert seen[0].dtype == torch.float32


def test_other_inputs_and_changed_weights():
    packed, x = deploy.pack(four_bits()), torch.randn(2, 3, 12, 10)
    expected = packed(x)
    assert torch.allclose(packed.double()(x.double()).float(), expected, atol=1e-4)
    packed = packed.float()
    packed(x)
    weights = packed.layer("3").weight_bits
    weights ^= 255
    packed.layer("3").forget()
    assert torch.equal(packed(x), copy.deepcopy(packed)(x))
    assert not torch.equal(packed(x), expected)
    before = packed(x)
    packed.layer("3").input.thresholds += 40  # which the layer before compares with
    packed.layer("3").forget()
    assert torch.equal(packed(x), copy.deepcopy(packed)(x))
    assert not torch.equal(packed(x), before)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_batch_norms_of_floats_before_linear_layers(bits, signed):
    """Where rows are certain to be rows, a batch norm of floats is a threshold on floats."""
    torch.manual_seed(0)
    kinds = quantizers("sign", bits, signed)
    network = exact(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(12, 21),
            nn.BatchNorm1d(21),
            nn.Hardtanh(-1.5, 1.5),
            QuantLinear(21, 30, bias=False, **kinds),
        ),
        0,
    )
    packed = deploy.pack(network)
    with torch.no_grad():
        x = torch.randn(4000, 3, 4)
        assert torch.equal(packed(x), network(x))
    assert len(calls(packed)) == 3  # flattening, the float layer, the packed one
    alone = nn.Sequential(*network[2:])  # of rows, or of sequences
    packed = deploy.pack(alone)
    x = torch.randn(3, 21, 21)
    expected, found = both(alone, x, packed)
    assert torch.equal(found, expected)
    assert len(calls(packed)) == 3


@pytest.mark.parametrize("count", [1, 3, 15, 31])
@pytest.mark.parametrize("even", [False, True])
def test_tables_give_the_codes_of_their_thresholds(count, even):
    """A line is used where it is right for every sum, and nowhere else."""
    random = np.random.default_rng(0)
    largest, outputs = 700, 37
    if even:
        start = random.uniform(-300, 300, outputs)
        step = random.uniform(1.1, 30, outputs)
        least = np.ceil(start + step * np.arange(count)[:, None]).astype(np.int64)
    else:
        least = np.sort(random.integers(-900, 900, (count, outputs)), axis=0)
    falling = random.random(outputs) < 0.5
    least = np.where(falling, least[::-1], least)
    table = table_of(least, falling, largest)
    sums = np.arange(-largest, largest + 1)[:, None, None]
    reached = (sums >= least).sum(1)
    wanted = np.where(falling, count - reached, reached)
    assert (table[1] == LINES) == (even and count > 3)
    stride = table[2]
    if table[1] == LINES:
        m, n, low, high = table[3:].view(np.float32).reshape(4, stride)[:, :outputs]
        values = (2 * sums[:, 0]).astype(np.float32) * m + n
        assert np.array_equal(np.clip(values, low, high).astype(int), wanted)
    else:
        rows = table[3 : 3 + count * stride // 2].view(np.int16).reshape(count, stride)
        reached = (sums >= rows[:, :outputs]).sum(1)
        flips = table[3 + count * stride // 2 :][:outputs]
        assert np.array_equal(np.where(flips < 0, count - reached, reached), wanted)


class Tokens(nn.Module):
    """Layers of tokens: two that share an input, an activation, and one behind it."""

    def __init__(self, quantizer) -> None:
        super().__init__()
        given = {"weight_quantizer": quantizer, "input_quantizer": quantizer}
        self.a, self.b, self.c = (QuantLinear(12, 12, **given) for _ in range(3))
        self.shift = nn.Parameter(torch.randn(12))

    def forward(self, x):
        y = self.c(torch.relu(self.a(x)) + self.shift)
        return y + self.b(x) * x


@pytest.mark.parametrize("quantizer", ["sign", {"map": "lsq", "bits": 4, "signed": True}])
def test_layers_of_tokens_are_computed_together(quantizer):
    torch.manual_seed(0)
    net = Tokens(quantizer)
    net(torch.randn(3, 5, 12))
    packed = deploy.pack(net.eval(), torch.randn(3, 5, 12))
    apart = deploy.pack(net, torch.randn(3, 5, 12), fold=False)
    apart.fuses = False
    for shape in ((3, 5, 12), (1, 1, 12), (0, 5, 12), (2, 9, 12)):
        x = torch.randn(shape)
        assert torch.equal(packed(x), apart(x))
        torch.testing.assert_close(packed(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("length", "fits"), [(30_000, True), (40_000, False)])
def test_sums_of_more_than_thirty_bits_stay_sums(length, fits):
    layer = deploy.PackedLinear(LevelsInput(8, 0, 1.0, 1, 255), Codes(8, 1, -128), (1, length))
    assert gives_integers(layer) == fits
