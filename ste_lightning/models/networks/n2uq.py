"""ResNet-18 as N2UQ quantizes it: all convolutions but the first, RPReLU before every quantizer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d, RPReLU
from ste_lightning.models.networks.residual import residual_stem
from ste_lightning.models.networks.stages import check_images, doubling, pooled_head

__all__ = ["N2UQResNet18"]

WEIGHTS = {"map": "n2uq_weights", "bits": 2}
INPUTS = {"map": "n2uq", "bits": 2}


def _convolution(
    before: int, after: int, kernel: int, stride: int, weight: Any, inputs: Any
) -> list[nn.Module]:
    convolution = QuantConv2d(
        before,
        after,
        kernel,
        stride,
        padding=kernel // 2,
        bias=False,
        weight_quantizer=weight,
        input_quantizer=inputs,
    )
    return [convolution, nn.BatchNorm2d(after)]


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            RPReLU(before),
            *_convolution(before, after, 3, stride, weight, inputs),
            RPReLU(after),
            *_convolution(after, after, 3, 1, weight, inputs),
        )
        same = before == after and stride == 1
        between = [] if same else _convolution(before, after, 1, stride, weight, inputs)
        self.shortcut = nn.Sequential(*between)
        self.activation = RPReLU(after)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.convolutions(x) + self.shortcut(x))
        return y


class N2UQResNet18(nn.Module):
    """ResNet-18 with learned thresholds; the convolutions of the shortcuts are quantized, too.

    Source: Z. Liu et al., Nonuniform-to-Uniform Quantization (2022), section 4 and its code.

    Args:
        image_channels: channels of the images.
        classes: number of outputs.
        large: begin with a 7 x 7 convolution of stride 2 and a max pool, as for ImageNet.
        width: channels of the first stage; they double three times.
        weight_quantizer: specification for all weights but those of the first and last layer;
            None = float.
        input_quantizer: specification for their inputs; None = float, RPReLU alone.

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
        self.stem.insert(2, nn.ReLU())
        self.blocks = nn.Sequential(
            *(_Block(*sizes, weight_quantizer, input_quantizer) for sizes in doubling(width, 2))
        )
        self.head = pooled_head(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits
