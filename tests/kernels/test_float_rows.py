"""Float inputs times packed weights equal the product with the weights in floats."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ste_lightning.kernels import SIGNS, Codes, reference

pytest.importorskip("numba")

from ste_lightning.kernels.gemm.float_rows import (
    multiply_floats,
    prepare_for_floats,
)

KINDS = [SIGNS, Codes(2, 1, -1), Codes(3, 2, -7), Codes(4, 1, -8), Codes(8, 1, -128)]


@given(
    rows=st.integers(0, 19),
    outputs=st.integers(1, 70),
    channels=st.integers(1, 90),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=40, deadline=None)
def test_products_of_floats(rows, outputs, channels, kind):
    torch.manual_seed(rows + outputs + channels)
    codes = torch.randint(0, 2**kind.bits, (outputs, channels), dtype=torch.uint8)
    x, scale, shift = torch.randn(rows, channels), torch.rand(outputs), torch.randn(outputs)
    w = prepare_for_floats(codes, kind, scale, shift)
    y = multiply_floats(x, w)
    expected = x.double() @ reference.values(codes, kind).T * scale + shift
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-3)
    assert w.words.nbytes <= outputs * channels * w.bits / 8 + 16 * 4 * (outputs + channels + 16)


def test_small_integers_are_exact_and_a_row_is_that_of_many():
    torch.manual_seed(0)
    kind = Codes(4, 1, -8)
    codes = torch.randint(0, 16, (50, 100), dtype=torch.uint8)
    x = torch.randint(-9, 9, (9, 100)).float()
    w = prepare_for_floats(codes, kind, torch.ones(50), torch.zeros(50))
    expected = (x.double() @ reference.values(codes, kind).T).float()
    assert torch.equal(multiply_floats(x, w), expected)
    assert torch.equal(multiply_floats(x[:1], w), expected[:1])
