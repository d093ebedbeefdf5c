"""QuickNet, a binary network made for fast processors.

Source: T. Bannink et al., Larq Compute Engine: Design, Benchmark, and Deploy State-of-the-Art
Binarized Neural Networks (2021), section 5, and the authors' model zoo.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks.stages import check_images

__all__ = ["QuickNet"]

SIGN = {"map": "sign", "rule": "clipped", "width": 1.25}


class _Unit(nn.Module):
    """x + BN(ReLU(convolution)): the quantizers' levels are -1 and +1, padding is +1."""

    def __init__(self, width: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.convolution = QuantConv2d(
            width,
            width,
            3,
            padding=1,
            bias=False,
            pad_value=0.0 if inputs is None else 1.0,
            weight_quantizer=weight,
            input_quantizer=inputs,
        )
        self.after = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.after(self.convolution(x))
        return y


def _blur(width: int) -> nn.Conv2d:
    """Half the resolution by a fixed binomial filter."""
    line = torch.tensor([0.25, 0.5, 0.25])
    blur = nn.Conv2d(width, width, 3, 2, 1, groups=width, bias=False).requires_grad_(False)
    blur.weight.copy_(torch.outer(line, line).expand_as(blur.weight))
    return blur


def _transition(before: int, after: int) -> list[nn.Module]:
    pointwise = nn.Conv2d(before, after, 1, bias=False)
    blurred = [nn.ReLU(), nn.MaxPool2d(2, 1), _blur(before)]
    return [*blurred, pointwise, nn.BatchNorm2d(after)]


class QuickNet(nn.Sequential):
    """Four sections of binary 3 x 3 convolutions with shortcuts; everything between is float.

    ``blocks=(6, 8, 12, 6)`` is QuickNetLarge, ``widths=(32, 64, 256, 512)`` QuickNetSmall. The
    float twin has ReLU in the same places.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        blocks: convolutions per section.
        widths: channels per section; the first a multiple of 4.
        weight_quantizer: specification for the 3 x 3 convolutions; None = float.
        input_quantizer: specification for their inputs; None = float.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes); sides are divided by 32.
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        blocks: Sequence[int] = (4, 4, 4, 4),
        widths: Sequence[int] = (64, 128, 256, 512),
        weight_quantizer: Any = SIGN,
        input_quantizer: Any = SIGN,
    ) -> None:
        check_images(image_channels, classes)
        fits = len(blocks) == len(widths) > 0 and min(*blocks, *widths) > 0 == widths[0] % 4
        said = [list(blocks), list(widths)]
        require(fits, "blocks, widths", said, "use equally many positive integers, widths by 4")
        first = widths[0] // 4
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, first, 3, 2, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, 2, 1, groups=first, bias=False),
            nn.BatchNorm2d(first, affine=False),
            nn.Conv2d(first, widths[0], 1, bias=False),
            nn.BatchNorm2d(widths[0]),
        ]
        for count, (before, width) in zip(blocks, pairwise([widths[0], *widths]), strict=True):
            if width != before:
                layers += _transition(before, width)
            layers += [_Unit(width, weight_quantizer, input_quantizer) for _ in range(count)]
        layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(widths[-1], classes))
