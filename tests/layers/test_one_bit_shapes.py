"""Every shape of convolution trains on the one-bit path as on the plain composition."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantConv3d
from ste_lightning.quantizers import Sign, Step

CLASSES: tuple[Any, ...] = (QuantConv1d, QuantConv2d, QuantConv3d)
LAYOUTS = ("contiguous", "strided", "transposed", "expanded")


@contextmanager
def without_onednn() -> Iterator[None]:
    """torch's own convolutions: oneDNN's for AMX read memory nobody wrote where a bfloat16
    output with a stride is one column wide (torch 2.13: 1x2x9x4, 3x3, stride (1, 2))."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values, stored in another way."""
    if layout == "strided":
        return x.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "expanded":
        return x[:, :, :1].expand_as(x)
    return x


def results(layer: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *layer.parameters()], grad.to(y.dtype))]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_gradients_equal_the_plain_composition(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    dims, groups, images = draw(1, 3), draw(1, 5), draw(0, 4)
    kernel = tuple(draw(1, 3) for _ in range(dims))
    dilation = tuple(draw(1, 3) for _ in range(dims))
    stride, padding = (tuple(draw(a, 2) for _ in range(dims)) for a in (1, 0))
    size = [draw(d * (k - 1) + 1, 9) for k, d in zip(kernel, dilation, strict=True)]
    dtype = data.draw(
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
    )
    torch.manual_seed(draw(0, 10**6))
    layer = CLASSES[dims - 1](
        groups * draw(1, 5),
        groups * draw(1, 5),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=False,
        dtype=dtype,
        pad_value=data.draw(st.sampled_from([0.0, 1.0])),
        input_quantizer={
            "map": data.draw(st.sampled_from(["sign", "step"])),
            "rule": data.draw(st.sampled_from(["clipped", "tanh"])),  # bits wait, or the input
        },
    )
    with torch.no_grad():
        layer.weight.mul_(3)  # some outside of the rule's window
    x = torch.randn(images, layer.in_channels, *size).to(dtype)
    x = laid_out(x, data.draw(st.sampled_from(LAYOUTS)))
    grad = torch.randn(layer(x).shape)
    plain = copy.deepcopy(layer)
    for module in plain.modules():
        if isinstance(module, (Sign, Step)):
            module.register_forward_hook(lambda *_: None)  # a hook must see every call
    with without_onednn():
        pairs = zip(results(layer, x, grad), results(plain, x, grad), strict=True)
    for ours, other in pairs:
        assert ours.dtype == other.dtype == dtype
        assert torch.equal(ours, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"stride": 2, "pad_value": -1.0},
        {"groups": 2},
        {"input_quantizer": {"map": "sign", "rule": "approx"}},
    ],
)
def test_channels_stay_last(dtype: torch.dtype, settings_: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = QuantConv2d(16, 32, 3, padding=1, **settings_).to(dtype)
    x = torch.randn(24, 16, 15, 13).to(dtype)  # enough that the products are counted
    grad = torch.randint(-2, 3, layer(x).shape).to(dtype)  # so that its sums are exact
    first = results(layer, x, grad)
    last = results(layer, x.to(memory_format=torch.channels_last), grad)
    for one, other in zip(first, last, strict=True):
        assert torch.equal(one, other)
    for images in last[:2]:
        assert images.is_contiguous(memory_format=torch.channels_last)
