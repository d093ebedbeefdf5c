"""Residual networks, with the shortcuts where binary networks have them.

Sources: K. He et al., Deep Residual Learning (2016); Z. Liu et al., Bi-Real Net (2018), figure 3;
H. Qin et al., IR-Net (2020), whose code puts the shortcut around two convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require, unknown
from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks.padding import pad_value
from ste_lightning.models.networks.stages import check_images, pooled_head, stages

__all__ = ["ResNet", "ResNet18", "ResNet20", "residual_stem", "shortcut_of"]

PLACEMENTS = ("single", "double")
SHORTCUTS = ("pad", "pooled", "strided")


class _PaddedShortcut(nn.Module):
    """Every second pixel, and zeros as new channels: no parameters (He et al., option A)."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


def shortcut_of(kind: str, before: int, after: int, stride: int) -> nn.Module:
    """Return what brings a block's input to the shape of its output."""
    if before == after and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return _PaddedShortcut(after - before, stride)
    if kind == "pooled":
        pool = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        return nn.Sequential(*pool, nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def residual_stem(image_channels: int, width: int, large: bool) -> nn.Sequential:
    """Return the float beginning: 3 x 3, or 7 x 7 of stride 2 and a max pool for ImageNet."""
    kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1)
    stem: list[nn.Module] = [
        nn.Conv2d(image_channels, width, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(width),
    ]
    return nn.Sequential(*stem, *([nn.MaxPool2d(3, 2, 1)] if large else []))


class _Convolution(nn.Sequential):
    """ReLU in the float twin, a quantized 3 x 3 convolution, batch norm."""

    def __init__(self, before: int, after: int, stride: int, weight: Any, inputs: Any) -> None:
        activation = nn.ReLU() if inputs is None else nn.Identity()  # equal names in the twin
        convolution = QuantConv2d(
            before,
            after,
            3,
            stride,
            padding=1,
            bias=False,
            pad_value=pad_value(inputs),
            weight_quantizer=weight,
            input_quantizer=inputs,
        )
        super().__init__(activation, convolution, nn.BatchNorm2d(after))


class _Block(nn.Module):
    """Two convolutions with one shortcut around both, or one around each."""

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        weight: Any,
        inputs: Any,
        double: bool,
        kind: str,
    ) -> None:
        super().__init__()
        self.twice = double
        self.first = _Convolution(before, after, stride, weight, inputs)
        self.second = _Convolution(after, after, 1, weight, inputs)
        self.shortcut = shortcut_of(kind, before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.twice:
            x = self.first(x) + self.shortcut(x)
            y: Tensor = self.second(x) + x
            return y
        y = self.second(self.first(x)) + self.shortcut(x)
        return y


class ResNet(nn.Module):
    r"""A residual network; its first convolution and last layer are float.

    A convolution quantizes its own input, so that real numbers run along the shortcuts:
    :math:`x \leftarrow BN(Q_w(W) * Q_x(x)) + x` with ``placement="double"`` (Bi-Real's), the
    shortcut around two of them with ``"single"`` (IR-Net's).

    Args:
        blocks: blocks of two convolutions per stage.
        widths: channels per stage; every stage but the first halves height and width.
        image_channels: channels of the images.
        classes: number of outputs.
        placement: ``"double"`` or ``"single"``.
        shortcut: what changes the number of channels: ``"pad"`` (zeros), ``"pooled"`` (average
            pool and a float 1 x 1 convolution) or ``"strided"`` (a float 1 x 1 convolution).
        large: begin with a 7 x 7 convolution of stride 2 and a max pool, as for ImageNet.
        weight_quantizer: specification for the inner weights; None = float.
        input_quantizer: specification for the inner activations; None = ReLU.

    Shapes:
        (batch, image_channels, height, width) -> (batch, classes).

    Raises:
        ConfigurationError: for unknown placements and shortcuts and sizes that cannot be.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        image_channels: int = 3,
        classes: int = 10,
        placement: str = "double",
        shortcut: str = "pooled",
        large: bool = False,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
    ) -> None:
        super().__init__()
        fits = len(blocks) == len(widths) > 0 and min(*blocks, *widths) > 0
        require(
            fits,
            "blocks, widths",
            [list(blocks), list(widths)],
            "use equally many positive integers",
        )
        check_images(image_channels, classes)
        if placement not in PLACEMENTS:
            raise unknown("placement", placement, PLACEMENTS)
        if shortcut not in SHORTCUTS:
            raise unknown("shortcut", shortcut, SHORTCUTS)
        self.stem = residual_stem(image_channels, widths[0], large)
        double = placement == "double"
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        _Block(*sizes, weight_quantizer, input_quantizer, double, shortcut)
                        for sizes in stage
                    )
                )
                for stage in stages(blocks, widths)
            )
        )
        self.head = nn.Sequential(nn.ReLU(), *pooled_head(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


class ResNet20(ResNet):
    """ResNet-20 for 32 x 32 pixels: three stages of three blocks, 16, 32 and 64 channels.

    0.27 million parameters and 40.6 million products with shortcuts by padding, as He et al.
    section 4.2. See :class:`ResNet` for the arguments.
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 10,
        placement: str = "double",
        shortcut: str = "pad",
        width: int = 16,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
    ) -> None:
        super().__init__(
            (3, 3, 3),
            (width, 2 * width, 4 * width),
            image_channels,
            classes,
            placement,
            shortcut,
            False,
            weight_quantizer,
            input_quantizer,
        )


class ResNet18(ResNet):
    """ResNet-18: four stages of two blocks, 64 to 512 channels; ``large=True`` for ImageNet.

    11.2 million parameters for 10 classes of 32 x 32 pixels, 11.7 million for ImageNet. See
    :class:`ResNet` for the arguments.
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 10,
        placement: str = "double",
        shortcut: str = "pooled",
        large: bool = False,
        width: int = 64,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
    ) -> None:
        super().__init__(
            (2, 2, 2, 2),
            (width, 2 * width, 4 * width, 8 * width),
            image_channels,
            classes,
            placement,
            shortcut,
            large,
            weight_quantizer,
            input_quantizer,
        )
