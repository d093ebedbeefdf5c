"""Products of signs straight from latent weights equal the float product of the signs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ste_lightning.functional import hard_sign
from ste_lightning.functional.estimator.surrogate import surrogate
from ste_lightning.functional.products import popcount_forward
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.kernels import default_format

pytest.importorskip("numba")
latent_rows = pytest.importorskip("ste_lightning.kernels.gemm.sign_linear")
SPECIAL = torch.tensor([-0.0, 0.0, math.nan, math.inf, -math.inf])
FORMATS = ["lookup", "bytes", "words"]
SHAPES = [(1, 1, 1), (5, 33, 7), (64, 256, 256), (50, 70, 65), (17, 64, 130)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("rows", "channels", "outputs"), SHAPES)
def test_counts_equal_the_float_product(
    rows: int, channels: int, outputs: int, biased: bool, format: str
) -> None:
    generator = torch.Generator().manual_seed(rows + channels)
    for _ in range(2):  # the second time the memory is not fresh
        x = torch.randn(rows, channels, generator=generator)
        weight = torch.randn(outputs, channels, generator=generator)
        for operand in (x, weight):
            some = operand.view(-1)[::7]
            some.copy_(SPECIAL.repeat(len(some))[: len(some)])
        bias = torch.randn(outputs, generator=generator) if biased else None
        y = latent_rows.multiply_signs(x, weight, bias, format)
        expected = hard_sign(x.nan_to_num(1.0)) @ hard_sign(weight.nan_to_num(1.0)).T
        assert torch.equal(y, expected if bias is None else expected + bias)


def test_more_shapes_than_are_kept() -> None:
    x = torch.randn(3, 8)
    for outputs in [*range(1, latent_rows._ROOMS + 5), 1, 2]:
        weight = torch.randn(outputs, 8)
        y = latent_rows.multiply_signs(x, weight, None, default_format())
        assert torch.equal(y, F.linear(hard_sign(x), hard_sign(weight)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("place", ["x", "weight", "bias", "three axes"])
def test_strided_operands_are_counted_too(place: str, threads: int) -> None:
    rule = surrogate("clipped")
    spec = OneBitProduct("sign", rule, rule)
    x, weight, bias = torch.randn(64, 512), torch.randn(512, 512), torch.randn(512)
    if place == "x":
        x = x.t().contiguous().t()
    elif place == "weight":
        weight = weight.t()
    elif place == "bias":
        bias = torch.randn(512, 2)[:, 1]
    else:
        x = x.view(4, 16, 512)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = popcount_forward.counted_product(x, weight, None, bias, spec)
    finally:
        torch.set_num_threads(before)
    assert y is not None
    assert torch.equal(y, F.linear(hard_sign(x), hard_sign(weight)) + bias)
