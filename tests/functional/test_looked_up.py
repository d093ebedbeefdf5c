"""Gradients by look-up equal those of float products up to rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ste_lightning.functional.estimator.surrogate import surrogate
from ste_lightning.functional.products import lut_gradients
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.saved import bit_masks


def close(ours: torch.Tensor, exact: torch.Tensor, summed: torch.Tensor) -> None:
    assert ours.shape == exact.shape
    largest = max(float(exact.abs().max()), float(summed.abs().max()))  # sums may cancel
    assert float((ours - exact).abs().max()) <= 1e-5 * largest


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_equal_float_products(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    dims, groups, images = draw(1, 2), draw(1, 3), draw(1, 3)
    channels, outputs = draw(1, 9), draw(1, 40)
    kernel = tuple(draw(1, 3) for _ in range(dims))
    stride, padding = (tuple(draw(a, 3) for _ in range(dims)) for a in (1, 0))
    dilation = tuple(draw(1, 2) for _ in range(dims))
    size = [draw(d * (k - 1) + 1, 40) for k, d in zip(kernel, dilation, strict=True)]
    map_name = data.draw(st.sampled_from(["sign", "step"]))
    pad_value = data.draw(st.sampled_from([0.0, 1.0]))
    torch.manual_seed(draw(0, 10**6))
    geometry = ConvolutionGeometry(stride, padding, dilation, groups, pad_value)
    identity = surrogate("identity")
    spec = OneBitProduct(map_name, identity, identity, geometry)
    x = torch.randn(images, groups * channels, *size)
    weight = torch.randn(groups * outputs, channels, *kernel)
    values, signs = spec.quantized(x), bit_masks.signs(weight)
    grad = torch.randn_like(spec.multiply(values, signs, None))
    packed, _ = bit_masks.pack(x, map_name == "step", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lut_gradients, "_pays", lambda shape: True)
        found = lut_gradients.looked_up_gradients(grad, weight, packed, x.shape, spec)
    assert found is not None
    wide = (grad.double(), values.double(), signs.double())
    in_x, in_weight, _ = spec.differentiate(*wide, (True, True, False))
    assert in_x is not None
    assert in_weight is not None
    close(found[0], in_x, grad)
    close(found[1], in_weight, grad)


def test_threads_share_the_images() -> None:
    torch.manual_seed(0)
    geometry = ConvolutionGeometry((1, 1), (1, 1), (1, 1), 1)
    spec = OneBitProduct("sign", surrogate("identity"), surrogate("identity"), geometry)
    x, weight, grad = (
        torch.randn(9, 16, 16, 16),
        torch.randn(32, 16, 3, 3),
        torch.randn(9, 32, 16, 16),
    )
    packed, _ = bit_masks.pack(x, False, None)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(lut_gradients.looked_up_gradients(grad, weight, packed, x.shape, spec))
    finally:
        torch.set_num_threads(threads)
    alone, shared = found
    assert alone is not None
    assert shared is not None
    torch.testing.assert_close(shared[0], alone[0], rtol=0, atol=0)
    torch.testing.assert_close(shared[1], alone[1], rtol=1e-5, atol=1e-4)


def test_small_or_odd_convolutions_stay_with_float_products() -> None:
    geometry = ConvolutionGeometry((1, 1), (1, 1), (1, 1), 1)
    spec = OneBitProduct("sign", surrogate("identity"), surrogate("identity"), geometry)
    for images, channels, outputs, size in ((1, 8, 32, 8), (64, 64, 3, 16), (64, 64, 64, 1)):
        x = torch.randn(images, channels, size, size)
        weight, grad = (
            torch.randn(outputs, channels, 3, 3),
            torch.randn(images, outputs, size, size),
        )
        packed, _ = bit_masks.pack(x, False, None)
        assert lut_gradients.looked_up_gradients(grad, weight, packed, x.shape, spec) is None
