"""Gradients by tile registers: as exact as float32's, in every shape, and left alone where not."""

import pytest
import torch
from torch.nn import functional as F

from ste_lightning.functional.products import tile_convolutions, tile_products
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.products.tile_products import (
    ONE,
    Operand,
    gradient_format,
    tiled_gradients,
    tiled_product,
)
from ste_lightning.functional.rules.windows import Identity
from ste_lightning.kernels import Codes

pytestmark = pytest.mark.skipif(
    gradient_format(Codes(8, 1, 0)) != "float_tiles", reason="a processor without tile registers"
)


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(tile_products, "_LEAST_WORK", 0)
    monkeypatch.setattr(tile_convolutions, "_LEAST_WORK", 0)
    monkeypatch.setattr(tile_convolutions, "_LEAST_USED", 0)


def distance(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def closer_than_float32(found, expected, product):
    """Within twice float32's own rounding."""
    return distance(found, expected) < 2 * distance(product, expected) + 1e-7


def integers(rows, columns, steps, largest=8):
    values = torch.randint(-largest, largest, (rows, columns)).float()
    return Operand(values * steps.view(-1, 1), steps)


@pytest.mark.parametrize("shape", [(5, 7, 3), (33, 40, 70), (64, 600, 96), (1, 32, 32)])
@pytest.mark.parametrize("kind", ["one step", "each row", "floats"])
def test_linear_gradients(shape, kind):
    rows, inputs, outputs = shape
    grad = torch.randn(rows, outputs) * 1e-3
    each = {"one step": (1, 1), "each row": (rows, outputs), "floats": (1, 1)}[kind]
    x, weight = (
        integers(n, inputs, torch.rand(k) + 0.1) for n, k in zip((rows, outputs), each, strict=True)
    )
    if kind == "floats":
        x, weight = (Operand(torch.randn_like(t.values)) for t in (x, weight))
    expected = grad.double() @ weight.values.double(), grad.double().t() @ x.values.double()
    in_x, in_weight, _ = tiled_gradients(grad, x, weight, (True, True, False))
    assert closer_than_float32(in_x, expected[0], grad @ weight.values)
    assert closer_than_float32(in_weight, expected[1], grad.t() @ x.values)


def test_steps_that_are_wrong_cost_time_alone():
    grad, values = torch.randn(40, 50), torch.randn(50, 60)
    x = torch.randn(40, 60)
    wrong = Operand(x, torch.tensor([0.5])), Operand(values, torch.tensor([0.5]))
    in_x, in_weight, _ = tiled_gradients(grad, *wrong, (True, True, False))
    assert closer_than_float32(in_x, grad.double() @ values.double(), grad @ values)
    assert closer_than_float32(in_weight, grad.double().t() @ x.double(), grad.t() @ x)


def test_latent_weights_are_quantized_as_layers_do():
    latent, grad = torch.randn(70, 40), torch.randn(33, 70)
    steps = torch.rand(70) * 0.2 + 0.05
    latent[:, 0] = steps * 2.5  # halves go to the even level
    quantized = (latent / steps.view(-1, 1)).clamp(-4, 3).round() * steps.view(-1, 1)
    x = integers(33, 40, torch.tensor([0.3]))
    in_x, *_ = tiled_gradients(grad, x, Operand(latent, steps, (-4.0, 3.0)), (True, False, False))
    assert closer_than_float32(in_x, grad.double() @ quantized.double(), grad @ quantized)
    y = tiled_product(x, Operand(latent, steps, (-4.0, 3.0)), torch.ones(70))
    expected = F.linear(x.values.double(), quantized.double(), torch.ones(70).double())
    assert distance(y, expected) < 1e-6
    latent[3, 3] = torch.nan
    assert (
        tiled_gradients(grad, x, Operand(latent, steps, (-4.0, 3.0)), (True, False, False)) is None
    )


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 3e38, 1e-30])
def test_gradients_that_are_extreme_stay_so(value):
    grad, weight = torch.zeros(32, 32), integers(32, 32, ONE)
    grad[3, 5] = value
    weight.values[5] = 1.0
    in_x, *_ = tiled_gradients(grad, integers(32, 32, ONE), weight, (True, False, False))
    expected = torch.full((32,), value)
    torch.testing.assert_close(in_x[3], expected, equal_nan=True)
    assert (in_x[4] == 0).all()


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("images", "channels", "outputs", "size", "kernel", "padding", "dilation", "pad"),
    [
        (2, 3, 5, (6, 7), (3, 3), (1, 1), (1, 1), 0.0),
        (3, 40, 33, (9, 11), (3, 3), (1, 1), (1, 1), -1.0),
        (2, 16, 70, (8, 8), (1, 1), (0, 0), (1, 1), 0.0),
        (2, 33, 20, (12, 10), (3, 3), (2, 2), (2, 2), 1.0),
        (1, 8, 8, (10, 10), (5, 3), (2, 0), (1, 1), 0.0),
        (70, 32, 32, (5, 5), (3, 3), (1, 1), (1, 1), 0.0),
    ],
)
def test_convolution_gradients(
    images, channels, outputs, size, kernel, padding, dilation, pad, last
):
    order = torch.channels_last if last else torch.contiguous_format
    geometry = ConvolutionGeometry((1, 1), padding, dilation, 1, pad)
    x = torch.randint(-1, 2, (images, channels, *size)).float()
    x = x.contiguous(memory_format=order)
    steps = torch.rand(outputs) + 0.1
    weight = integers(outputs, channels * kernel[0] * kernel[1], steps)
    values = weight.values.view(outputs, channels, *kernel)
    product = OneBitProduct("sign", Identity(), Identity(), geometry)
    grad = torch.randn_like(product.multiply(x, values, None)).contiguous(memory_format=order)
    found = tile_convolutions.tiled_convolution_gradients(
        grad, Operand(x, ONE), Operand(values, steps), geometry, (True, True)
    )
    wanted = True, True, True
    plain = product.differentiate(grad, x, values, wanted, steps=(None, None))
    exact = product.differentiate(grad.double(), x.double(), values.double(), wanted)
    for ours, theirs, expected in zip(found, plain, exact, strict=False):
        assert closer_than_float32(ours, expected, theirs)
    assert found[0].is_contiguous(memory_format=order)
    whole = product.differentiate(grad, x, values, wanted, steps=(ONE, steps))
    assert torch.equal(whole[0], found[0])
    torch.testing.assert_close(whole[2], grad.sum((0, 2, 3)))


def test_convolutions_that_do_not_fit_are_left_alone():
    x, weight, grad = torch.ones(2, 32, 8, 8), torch.ones(32, 32, 3, 3), torch.ones(2, 32, 8, 8)
    same = ConvolutionGeometry((1, 1), (1, 1), (1, 1), 1, 0.0)
    other = [
        same._replace(stride=(2, 2)),
        same._replace(padding=(2, 2)),
        same._replace(groups=2),
    ]
    for geometry in other:
        operands = Operand(x, ONE), Operand(weight, ONE)
        found = tile_convolutions.tiled_convolution_gradients(
            grad, *operands, geometry, (True, True)
        )
        assert found is None
    for operands in (
        (Operand(x * 0.3, ONE), Operand(weight, ONE)),
        (Operand(x, ONE), Operand(weight * 0.3, ONE)),
        (Operand(x), Operand(weight, ONE)),
    ):
        found = tile_convolutions.tiled_convolution_gradients(grad, *operands, same, (True, True))
        assert found is None
