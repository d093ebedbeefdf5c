"""VGG-small, the plain convolutional network of binary networks' tables on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ste_lightning.errors import require
from ste_lightning.models.networks.small import ConvNet

__all__ = ["VGGSmall"]


class VGGSmall(ConvNet):
    """Six 3 x 3 convolutions, a max pool after every second one, one linear layer.

    The first convolution and the linear layer are float. With width 128 on 32 x 32 pixels it has
    4.66 million weights. Batch norm follows the pool, so that the largest real number is kept.

    Args:
        image: (channels, height, width) of an input; height and width divisible by 8, or rounded
            down by the pools.
        classes: number of outputs.
        width: channels of the first two layers; they double at every pool.
        weight_quantizer: specification for the inner weights; None = float.
        input_quantizer: specification for the inner activations; None = ReLU.
        dropout: fraction of the last features dropped in training.

    Shapes:
        (batch, channels, height, width) -> (batch, classes).

    Source: D. Zhang et al., LQ-Nets (2018), section 4; used by IR-Net, ReSTE and others.
    """

    def __init__(
        self,
        image: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        width: int = 128,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
        dropout: float = 0.0,
    ) -> None:
        require(width > 0, "width", width, "use a positive integer")
        super().__init__(
            image,
            classes,
            [width, width, 2 * width, 2 * width, 4 * width, 4 * width],
            (1, 3, 5),
            weight_quantizer,
            input_quantizer,
            dropout,
        )
