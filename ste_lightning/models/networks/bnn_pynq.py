"""The topologies of BNN-PYNQ: three multilayer perceptrons and one convolutional network.

Source: Y. Umuroglu et al., FINN: A Framework for Fast, Scalable Binarized Neural Network Inference
(2017), section 4; trained figures in the README of brevitas' bnn_pynq examples.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantConv2d, QuantLinear

__all__ = ["CNV", "LFC", "SFC", "TFC"]


def _linear(before: int, after: int, weight: Any, inputs: Any) -> QuantLinear:
    return QuantLinear(before, after, bias=False, weight_quantizer=weight, input_quantizer=inputs)


class TFC(nn.Sequential):
    r"""features - width - width - width - classes, every weight quantized, no bias.

    As published the pixels are quantized like all activations (``first="input"``) and the last
    layer is followed by a normalization with two parameters; we use batch norm without any. With
    ``ends=False`` first and last layer are float, as is usual elsewhere.

    Args:
        features: numbers per sample; 784 as published.
        classes: number of outputs.
        weight_quantizer: specification for the weights; None = float.
        input_quantizer: specification for the activations; None = ReLU.
        ends: whether first and last layer have quantized weights and activations, too.
        dropout: fraction of the inputs and of every hidden layer dropped in training.

    Shapes:
        (batch, ...) with ``features`` numbers per sample -> (batch, classes).
    """

    width = 64

    def __init__(
        self,
        features: int = 784,
        classes: int = 10,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
        ends: bool = True,
        dropout: float = 0.0,
    ) -> None:
        require(features > 0, "features", features, "use a positive integer")
        require(classes > 1, "classes", classes, "use two or more")
        widths = [features, *[self.width] * 3, classes]
        layers: list[nn.Module] = [nn.Flatten()]
        for index, (before, after) in enumerate(pairwise(widths)):
            inner = ends or 0 < index < 3
            weight = weight_quantizer if inner else None
            inputs = input_quantizer if inner else None
            if dropout:
                layers.append(nn.Dropout(dropout))
            layers.append(nn.ReLU() if index > 0 and inputs is None else nn.Identity())
            layers += [
                _linear(before, after, weight, inputs),
                nn.BatchNorm1d(after, affine=index < 3),
            ]
        super().__init__(*layers)


class SFC(TFC):
    """As :class:`TFC`, with hidden layers of 256."""

    width = 256


class LFC(TFC):
    """As :class:`TFC`, with hidden layers of 1024."""

    width = 1024


class CNV(nn.Sequential):
    """Six 3 x 3 convolutions without padding, two max pools, three linear layers, for 32 x 32.

    The channels are 64, 64, pool, 128, 128, pool, 256, 256, then 512, 512, classes; every weight
    is quantized, nothing has a bias. The pixels have 8 bits, as published.

    Args:
        channels: of the images.
        classes: number of outputs.
        weight_quantizer: specification for the weights; None = float.
        input_quantizer: specification for the activations; None = ReLU.

    Shapes:
        (batch, channels, 32, 32) -> (batch, classes).
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        weight_quantizer: Any = "sign",
        input_quantizer: Any = "sign",
    ) -> None:
        require(channels > 0, "channels", channels, "use a positive integer")
        require(classes > 1, "classes", classes, "use two or more")
        layers: list[nn.Module] = []
        pixels = None if input_quantizer is None else {"map": "lsq", "bits": 8}

        def activation() -> nn.Module:
            return nn.ReLU() if layers and input_quantizer is None else nn.Identity()

        before = channels
        for index, after in enumerate((64, 64, 128, 128, 256, 256)):
            layers.append(activation())
            layers.append(
                QuantConv2d(
                    before,
                    after,
                    3,
                    bias=False,
                    weight_quantizer=weight_quantizer,
                    input_quantizer=input_quantizer if index else pixels,
                )
            )
            if index in (1, 3):
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.BatchNorm2d(after))
            before = after
        for before, after in pairwise((256, 512, 512, classes)):
            layers.append(activation())
            if before == 256:
                layers.append(nn.Flatten())
            layers.append(_linear(before, after, weight_quantizer, input_quantizer))
            layers.append(nn.BatchNorm1d(after, affine=after != classes))
        super().__init__(*layers)
