"""XNOR-Net: AlexNet in one bit.

Source: M. Rastegari et al., XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks (2016), section 4, figure 3: batch norm, sign, convolution, pool.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks.padding import pad_value
from ste_lightning.models.networks.stages import check_images

__all__ = ["XNORNet"]

WEIGHTS = {"map": "sign", "scale": "channel_mean"}


class XNORNet(nn.Sequential):
    """AlexNet with binary layers between a float first convolution and a float last layer.

    In the float twin ReLU stands where the signs were.

    Args:
        image_channels: channels of the images; they have 224 x 224 pixels.
        classes: number of outputs.
        width: a factor of all channels, for tries.
        weight_quantizer: specification for the layers between; None = float.
        input_quantizer: specification for their inputs; None = ReLU.

    Shapes:
        (batch, image_channels, 224, 224) -> (batch, classes).
    """

    def __init__(
        self,
        image_channels: int = 3,
        classes: int = 1000,
        width: float = 1.0,
        weight_quantizer: Any = WEIGHTS,
        input_quantizer: Any = "sign",
    ) -> None:
        check_images(image_channels, classes)
        require(0 < width <= 1, "width", width, "use a factor above 0, up to 1")
        first = round(96 * width)
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, first, 11, 4, 4, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        ]
        before = first
        for channels, kernel, padding, pool in (
            (256, 5, 2, True),
            (384, 3, 1, False),
            (384, 3, 1, False),
            (256, 3, 1, True),
            (4096, 6, 0, False),
            (4096, 1, 0, False),
        ):
            after = round(channels * width)
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU() if input_quantizer is None else nn.Identity(),
                QuantConv2d(
                    before,
                    after,
                    kernel,
                    padding=padding,
                    bias=False,
                    pad_value=pad_value(input_quantizer) if padding else 0.0,
                    weight_quantizer=weight_quantizer,
                    input_quantizer=input_quantizer,
                ),
            ]
            if pool:
                layers.append(nn.MaxPool2d(3, 2))
            before = after
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Flatten()]
        super().__init__(*layers, nn.Linear(before, classes, bias=False))
