"""MobileNetV2, whose depthwise convolutions are hard to quantize.

Source: M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018), table 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks.stages import check_images

__all__ = ["MobileNetV2"]

WEIGHTS = {"map": "lsq", "bits": 4}
INPUTS = {"map": "lsq", "bits": 4, "signed": False}

# expansion, channels, blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _convolution(
    before: int, after: int, kernel: int, stride: int, groups: int, weight: Any, inputs: Any
) -> list[nn.Module]:
    convolution = QuantConv2d(
        before,
        after,
        kernel,
        stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
        weight_quantizer=weight,
        input_quantizer=inputs,
    )
    return [convolution, nn.BatchNorm2d(after)]


class _Bottleneck(nn.Module):
    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        expansion: int,
        weight: Any,
        inputs: Any,
        signed: Any,
    ) -> None:
        super().__init__()
        wide = expansion * before
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [*_convolution(before, wide, 1, 1, 1, weight, signed), nn.ReLU6()]
        self.convolutions = nn.Sequential(
            *layers,
            *_convolution(wide, wide, 3, stride, wide, weight, inputs),
            nn.ReLU6(),
            *_convolution(wide, after, 1, 1, 1, weight, inputs),
        )
        self.residual = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolutions(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Sequential):
    """Inverted residuals; the first convolution and the last layer are float.

    Where no ReLU6 precedes a convolution its input has both signs: there an input quantizer given
    as a mapping with ``signed: false`` is built with ``signed: true``.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        large: halve the sides five times, as for ImageNet; else three times, for 32 x 32.
        weight_quantizer: specification for all weights between; None = float.
        input_quantizer: specification for their inputs; None = ReLU6 alone.
        dropout: fraction of the last features dropped in training.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        large: bool = True,
        weight_quantizer: Any = WEIGHTS,
        input_quantizer: Any = INPUTS,
        dropout: float = 0.2,
    ) -> None:
        check_images(image_channels, classes)
        signed = input_quantizer
        if isinstance(signed, Mapping) and signed.get("signed") is False:
            signed = {**signed, "signed": True}
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, 32, 3, 2 if large else 1, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU6(),
        ]
        before = 32
        for expansion, after, count, first in STAGES:
            for index in range(count):
                halves = index == 0 and (large or after != 24)
                stride = first if halves else 1
                layers.append(
                    _Bottleneck(
                        before, after, stride, expansion, weight_quantizer, input_quantizer, signed
                    )
                )
                before = after
        layers += [*_convolution(before, 1280, 1, 1, 1, weight_quantizer, signed), nn.ReLU6()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear(1280, classes))
