"""Tile registers and depthwise columns: shapes at their edges, and processors without them."""

import pickle

import pytest
import torch

from ste_lightning.kernels import (
    SIGNS,
    STEPS,
    Codes,
    Geometry,
    convolve,
    linear,
    prepare,
    reference,
)
from ste_lightning.kernels.jit import cpu_features

A8, W4 = Codes(8, 1, -128), Codes(4, 1, -8)


def random_codes(kind, *shape):
    return torch.randint(0, 2**kind.bits, shape, dtype=torch.uint8)


@pytest.mark.parametrize(("fmt", "bits"), [("int8_tiles", 8), ("int4_tiles", 3), ("int1_tiles", 1)])
def test_tiles_are_exact_whatever_is_left_over(fmt, bits):
    weights = SIGNS if bits == 1 else Codes(bits, 1, -(2 ** (bits - 1)))
    for rows, outputs, channels in ((5, 33, 520), (33, 32, 64), (100, 5, 129), (700, 40, 200)):
        codes, x = random_codes(weights, outputs, 1, channels), random_codes(A8, rows, channels)
        w = prepare(codes, A8, weights, format=fmt)
        assert torch.equal(linear(x, w).double(), reference.linear(x, A8, codes, weights))


def test_without_leave_for_tiles_vectors_multiply(monkeypatch):
    codes, x = random_codes(W4, 40, 1, 70), random_codes(A8, 20, 70)
    monkeypatch.setattr(cpu_features, "may_use_tiles", lambda: False)
    w = prepare(codes, A8, W4, format="int4_tiles")
    assert torch.equal(linear(x, w).double(), reference.linear(x, A8, codes, W4))
    assert w.block > 1 << 30
    assert (
        "plan" not in pickle.loads(pickle.dumps(w)).__dict__
    )  # what another process may is its own


@pytest.mark.parametrize("name", ["sapphirerapids", "icelake-server", "haswell"])
def test_processors_with_tiles_are_known_by_name(name):
    assert cpu_features.has_tiles(name) is (name == "sapphirerapids")


@pytest.mark.parametrize("inputs", [SIGNS, STEPS, W4, A8], ids=["signs", "steps", "4", "8"])
@pytest.mark.parametrize("pad", [None, 0.0, 1.0])
def test_depthwise_columns(inputs, pad):
    groups = 48
    for weights in (SIGNS, W4, A8):
        codes = random_codes(weights, groups, 9, 1)
        w = prepare(codes, inputs, weights, groups=groups, pad_value=pad, format="depthwise")
        x = random_codes(inputs, 2, groups, 70, 50).contiguous(memory_format=torch.channels_last)
        for stride, padding in (((1, 1), ((1, 1), (1, 1))), ((2, 2), ((0, 2), (2, 0)))):
            geometry = Geometry((3, 3), stride, padding, (1, 1))
            expected = reference.convolve(x, inputs, codes, weights, geometry, groups, pad)
            assert torch.equal(convolve(x, w, geometry).double(), expected)


@pytest.mark.parametrize("inputs", [SIGNS, STEPS], ids=["signs", "steps"])
def test_depthwise_columns_of_floats(inputs):
    groups, geometry = 16, Geometry((3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1))
    codes = random_codes(SIGNS, groups, 9, 1)
    w = prepare(codes, inputs, SIGNS, groups=groups, pad_value=0.0, format="depthwise")
    factor, offset = torch.randn(groups), torch.randn(groups)
    x = torch.randn(3, groups, 9, 11).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, :3] = torch.tensor([0.0, -0.0, float("nan")])
    shape = (1, -1, 1, 1)
    for scale, shift in ((None, None), (factor, offset)):
        y = x if scale is None else x * factor.view(shape) + offset.view(shape)
        bits = (~(y < 0) if inputs.signs else y > 0).to(torch.uint8)
        expected = reference.convolve(bits, inputs, codes, SIGNS, geometry, groups, 0.0)
        assert torch.equal(convolve(x, w, geometry, scale, shift).double(), expected)
