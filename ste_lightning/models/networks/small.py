"""Small networks with exchangeable quantizers: batch norm everywhere, first and last layer float.

Passing ``None`` for both quantizers gives the float twin: the same layers, the same parameters
in the same order, and ReLU where the quantized network has its input quantizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.models.networks.padding import pad_value

__all__ = ["MLP", "ConvNet"]


def _positive(name: str, values: Sequence[int]) -> None:
    require(
        len(values) > 0 and all(value > 0 for value in values),
        name,
        list(values),
        "use one or more positive integers",
    )


class MLP(nn.Sequential):
    r"""Multilayer perceptron: float -> quantized ... quantized -> float.

    Hidden layer l computes :math:`BN(Q_w(W_l)\, Q_x(h_{l-1}))`.

    Args:
        features: number of inputs after flattening.
        classes: number of outputs.
        hidden: width of every hidden layer.
        weight_quantizer: specification for the weights of the inner layers; None = float.
        input_quantizer: specification for the inputs of the inner layers; None = ReLU.
        dropout: fraction of the last hidden layer dropped in training.

    Shapes:
        (batch, ...) with ``features`` numbers per sample -> (batch, classes).
    """

    def __init__(
        self,
        features: int = 64,
        classes: int = 10,
        hidden: Sequence[int] = (512, 512),
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
        dropout: float = 0.0,
    ) -> None:
        _positive("features, classes", [features, classes])
        _positive("hidden", hidden)
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(features, hidden[0], bias=False)]
        for before, width in pairwise(hidden):
            layers.append(nn.BatchNorm1d(before))
            if input_quantizer is None:
                layers.append(nn.ReLU())
            layers.append(
                QuantLinear(
                    before,
                    width,
                    bias=False,
                    weight_quantizer=weight_quantizer,
                    input_quantizer=input_quantizer,
                )
            )
        layers += [nn.BatchNorm1d(hidden[-1]), nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(hidden[-1], classes))
        super().__init__(*layers)


class ConvNet(nn.Sequential):
    r"""Convolutional network for small images: float -> quantized ... quantized -> float.

    The first convolution is float; every further one is quantized, pads with -1 (a binary value)
    when its inputs are signs, and is followed by batch norm. After the layers in ``pool`` the
    resolution is halved; the last layer is a float classifier on all remaining pixels.

    Args:
        image: (channels, height, width) of an input.
        classes: number of outputs.
        channels: output channels of every convolution (3 x 3).
        pool: indices of the convolutions followed by 2 x 2 max pooling.
        weight_quantizer: specification for the weights of the inner layers; None = float.
        input_quantizer: specification for the inputs of the inner layers; None = ReLU.
        dropout: fraction of the last hidden layer dropped in training.

    Shapes:
        (batch, channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        image: Sequence[int] = (1, 8, 8),
        classes: int = 10,
        channels: Sequence[int] = (32, 64),
        pool: Sequence[int] = (1,),
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
        dropout: float = 0.0,
    ) -> None:
        _positive("image", image)
        require(len(image) == 3, "image", list(image), "use [channels, height, width]")
        _positive("channels", channels)
        height, width = image[1], image[2]
        layers: list[nn.Module] = []
        before = image[0]
        for index, after in enumerate(channels):
            if index == 0:
                layers.append(nn.Conv2d(before, after, 3, padding=1, bias=False))
            else:
                if input_quantizer is None:
                    layers.append(nn.ReLU())
                layers.append(
                    QuantConv2d(
                        before,
                        after,
                        3,
                        padding=1,
                        bias=False,
                        pad_value=pad_value(input_quantizer),
                        weight_quantizer=weight_quantizer,
                        input_quantizer=input_quantizer,
                    )
                )
            if index in pool:
                # Pooling before the sign keeps the largest real value, not almost always +1.
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers.append(nn.BatchNorm2d(after))
            before = after
        require(height * width > 0, "pool", list(pool), "pool less often: no pixel is left")
        layers += [nn.ReLU(), nn.Flatten(), nn.Dropout(dropout)]
        layers.append(nn.Linear(before * height * width, classes))
        super().__init__(*layers)
