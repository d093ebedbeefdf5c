"""Binary networks whose layers add channels: BinaryDenseNet28 and MeliusNet22.

Sources: J. Bethge et al., Back to Simplicity: How to Train Accurate BNNs from Scratch? (2019),
table 3; J. Bethge et al., MeliusNet: Can Binary Neural Networks Achieve MobileNet-level Accuracy?
(2020), section 3.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks.padding import pad_value
from ste_lightning.models.networks.stages import check_images

__all__ = ["BinaryDenseNet28", "MeliusNet22"]

GROWTH = 64
SIGN = {"map": "sign", "rule": "clipped", "width": 1.3}


def _new_channels(before: int, growth: int, weight: Any, inputs: Any) -> nn.Sequential:
    convolution = QuantConv2d(
        before,
        growth,
        3,
        padding=1,
        bias=False,
        pad_value=pad_value(inputs),
        weight_quantizer=weight,
        input_quantizer=inputs,
    )
    activation = nn.ReLU() if inputs is None else nn.Identity()  # equal names in the twin
    return nn.Sequential(nn.BatchNorm2d(before), activation, convolution)


class _Dense(nn.Module):
    """New channels beside the old ones."""

    def __init__(self, before: int, growth: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.new = _new_channels(before, growth, weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


class _Improved(nn.Module):
    """Something for the channels that came last."""

    def __init__(self, before: int, growth: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.old = before - growth
        self.change = _new_channels(before, growth, weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.pad(self.change(x), (0, 0, 0, 0, self.old, 0))


def _transition(before: int, after: int) -> list[nn.Module]:
    pointwise = nn.Conv2d(before, after, 1, bias=False)
    return [nn.BatchNorm2d(before), nn.MaxPool2d(2), nn.ReLU(), pointwise]


def _head(before: int, classes: int) -> list[nn.Module]:
    pooled = [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [*pooled, nn.Linear(before, classes)]


class BinaryDenseNet28(nn.Sequential):
    """Four sections of 6, 6, 6 and 5 binary convolutions, each with 64 new channels.

    The 7 x 7 convolution, the 1 x 1 convolutions between the sections and the last layer are
    float. In the float twin ReLU stands where the signs were.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        large: begin with stride 2 and a max pool, as for ImageNet; else with 3 x 3.
        weight_quantizer: specification for the 3 x 3 convolutions; None = float.
        input_quantizer: specification for their inputs; None = ReLU.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        large: bool = True,
        weight_quantizer: Any = SIGN,
        input_quantizer: Any = SIGN,
    ) -> None:
        check_images(image_channels, classes)
        layers: list[nn.Module] = [nn.Conv2d(image_channels, GROWTH, 3, padding=1, bias=False)]
        if large:
            layers = [
                nn.Conv2d(image_channels, GROWTH, 7, 2, 3, bias=False),
                nn.BatchNorm2d(GROWTH),
                nn.ReLU(),
                nn.MaxPool2d(3, 2, 1),
            ]
        width = GROWTH
        for count, after in zip((6, 6, 6, 5), (160, 192, 256, None), strict=True):
            for _ in range(count):
                layers.append(_Dense(width, GROWTH, weight_quantizer, input_quantizer))
                width += GROWTH
            if after is not None:
                layers += _transition(width, after)
                width = after
        super().__init__(*layers, *_head(width, classes))


class MeliusNet22(nn.Sequential):
    """Pairs of a dense and an improvement block in sections of 4, 5, 4 and 4.

    The beginning is three float 3 x 3 convolutions, two of them grouped; the 1 x 1 convolutions
    between the sections and the last layer are float. In the float twin ReLU stands where the
    signs were.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        large: begin with stride 2 and a max pool, as for ImageNet.
        weight_quantizer: specification for the inner 3 x 3 convolutions; None = float.
        input_quantizer: specification for their inputs; None = ReLU.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        large: bool = True,
        weight_quantizer: Any = SIGN,
        input_quantizer: Any = SIGN,
    ) -> None:
        check_images(image_channels, classes)
        layers: list[nn.Module] = []
        before, stride = image_channels, 2 if large else 1
        for after, groups in ((32, 1), (32, 4), (64, 8)):
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, groups=groups, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before, stride = after, 1
        if large:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        width = before
        for count, last in zip((4, 5, 4, 4), (160, 224, 256, None), strict=True):
            for _ in range(count):
                layers.append(_Dense(width, GROWTH, weight_quantizer, input_quantizer))
                width += GROWTH
                layers.append(_Improved(width, GROWTH, weight_quantizer, input_quantizer))
            if last is not None:
                layers += _transition(width, last)
                width = last
        super().__init__(*layers, *_head(width, classes))
