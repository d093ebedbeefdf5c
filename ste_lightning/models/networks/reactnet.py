"""ReActNet: signs with learned thresholds, and PReLUs that move.

Source: Z. Liu et al., ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions (2020), figures 3 and 5.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d, RPReLU
from ste_lightning.models.networks.padding import pad_value
from ste_lightning.models.networks.residual import residual_stem, shortcut_of
from ste_lightning.models.networks.stages import check_images, doubling, pooled_head

__all__ = ["ReActNet18", "ReActNetA"]

WEIGHTS = {"map": "sign", "scale": "channel_mean", "rule": "clipped"}
INPUTS = {"map": "sign", "rule": "approx"}


class Shift(nn.Module):
    """x + b_c: in front of a sign, RSign; any quantizer can follow.

    Args:
        channels: the second axis of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted input."""
        return x + self.bias


class _Convolution(nn.Sequential):
    """A learned shift, a quantized convolution, batch norm."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, weight: Any, inputs: Any
    ) -> None:
        convolution = QuantConv2d(
            before,
            after,
            kernel,
            stride,
            padding=kernel // 2,
            bias=False,
            pad_value=pad_value(inputs),
            weight_quantizer=weight,
            input_quantizer=inputs,
        )
        super().__init__(Shift(before), convolution, nn.BatchNorm2d(after))


class _Unit(nn.Module):
    """One convolution with a shortcut, then RPReLU."""

    def __init__(self, before: int, after: int, stride: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.convolution = _Convolution(before, after, 3, stride, weight, inputs)
        self.shortcut = shortcut_of("pooled", before, after, stride)
        self.activation = RPReLU(after)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.convolution(x) + self.shortcut(x))
        return y


class ReActNet18(nn.Module):
    """ResNet-18 with a shortcut around every convolution, RSign and RPReLU.

    In the float twin the RPReLUs are the only activations. The first convolution, the 1 x 1
    convolutions of the shortcuts and the last layer are float.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        large: begin with a 7 x 7 convolution of stride 2 and a max pool, as for ImageNet.
        width: channels of the first stage; they double three times.
        weight_quantizer: specification for the inner weights; None = float.
        input_quantizer: specification for the inner activations; None = float.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        large: bool = True,
        width: int = 64,
        weight_quantizer: Any = WEIGHTS,
        input_quantizer: Any = INPUTS,
    ) -> None:
        super().__init__()
        check_images(image_channels, classes)
        require(width > 0, "width", width, "use a positive integer")
        self.stem = residual_stem(image_channels, width, large)
        self.units = nn.Sequential(
            *(_Unit(*sizes, weight_quantizer, input_quantizer) for sizes in doubling(width, 4))
        )
        self.head = pooled_head(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.units(self.stem(x)))
        return logits


class _Separable(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution, each with a shortcut; two of the latter double channels."""

    def __init__(self, before: int, after: int, stride: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.spatial = _Convolution(before, before, 3, stride, weight, inputs)
        self.first = RPReLU(before)
        self.pointwise = nn.ModuleList(
            _Convolution(before, before, 1, 1, weight, inputs) for _ in range(after // before)
        )
        self.second = RPReLU(after)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial(x)
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        y = self.first(y + x)
        # one threshold serves both halves in the paper; each has its own here
        z: Tensor = self.second(torch.cat([part(y) + y for part in self.pointwise], 1))
        return z


class ReActNetA(nn.Module):
    """MobileNetV1 without its depthwise convolutions, binary, with shortcuts everywhere.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        width: channels of the first convolution; they grow to 32 times as many.
        weight_quantizer, input_quantizer: as in :class:`ReActNet18`.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes); sides are halved five times.
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        width: int = 32,
        weight_quantizer: Any = WEIGHTS,
        input_quantizer: Any = INPUTS,
    ) -> None:
        super().__init__()
        check_images(image_channels, classes)
        require(width > 0, "width", width, "use a positive integer")
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        )
        factors = [1, 2, 4, 4, 8, 8, *[16] * 6, 32, 32]
        blocks = []
        for before, after in itertools.pairwise(factors):
            stride = 2 if after > before and after > 2 else 1
            blocks.append(
                _Separable(before * width, after * width, stride, weight_quantizer, input_quantizer)
            )
        self.blocks = nn.Sequential(*blocks)
        self.head = pooled_head(32 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits
