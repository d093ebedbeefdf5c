"""Networks for ``training_step.py``, and layers as people write them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from training_peers import PlainLSQ, PlainUniform, peer_layers

from ste_lightning.io.paths import CONF
from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.running.hydra_plugins import register

__all__ = [
    *("HandConv", "HandLinear", "cnn", "every_map", "four_bit_convolution", "four_bits", "mlp"),
    "recipe_networks",
]

Layer = Callable[..., nn.Module]


class HandWritten(torch.autograd.Function):
    """The clipped straight-through estimator as people write it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """Return the signs."""
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """Return the gradient where |x| <= 1."""
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class HandLinear(nn.Linear):
    """A linear layer around the hand-written estimator."""

    def __init__(self, *args: int, binary_input: bool = True) -> None:
        super().__init__(*args)
        self.binary_input = binary_input

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of the signs."""
        x = HandWritten.apply(x) if self.binary_input else x
        return F.linear(x, HandWritten.apply(self.weight), self.bias)


class HandConv(nn.Conv2d):
    """A convolution around the hand-written estimator."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the signs."""
        return self._conv_forward(HandWritten.apply(x), HandWritten.apply(self.weight), self.bias)


def mlp(first: Layer, later: Layer, widths: tuple[int, ...], float_net: bool) -> nn.Module:
    """784-1024-1024-10 and the like: ReLU between float layers, none before sign inputs."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers.append((first if i == 0 else later)(a, b))
        if float_net and i < len(widths) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def cnn(conv: Layer, float_net: bool, pool: bool = False) -> nn.Module:
    """64-64-128-128-256-256, 3x3, BN, halved twice; first convolution and head float.

    Sizes are halved by the strides of the third and the fifth convolution, or by max pooling.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)]
    channels = (64, 64, 128, 128, 256, 256)
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        halves = i % 2 == 1
        if float_net:
            layers.append(nn.ReLU())
        stride = 2 if halves and not pool else 1
        layers.append(conv(a, b, 3, stride=stride, padding=1, bias=False))
        if halves and pool:
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.BatchNorm2d(b))
    return nn.Sequential(
        *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)
    )


def four_bits(map_: str, widths: tuple[int, ...]) -> dict[str, nn.Module]:
    """Return MLPs whose layers quantize weights and inputs to four bits by the map."""
    quantizer = {"map": map_, "bits": 4}
    written = PlainLSQ if map_ == "lsq" else PlainUniform

    def first(a: int, b: int) -> nn.Module:
        return QuantLinear(a, b, weight_quantizer=quantizer, input_quantizer=None)

    def later(a: int, b: int) -> nn.Module:
        return QuantLinear(a, b, weight_quantizer=quantizer, input_quantizer=quantizer)

    nets = {
        "float": mlp(nn.Linear, nn.Linear, widths, True),
        "ours": mlp(first, later, widths, False),
        "hand-written": mlp(
            lambda a, b: written(a, b, quantizes_input=False), written, widths, False
        ),
    }
    for name, (plain, quantized) in peer_layers().items():
        if "4 bits" in name:
            nets[name] = mlp(plain, quantized, widths, False)
    return nets


def four_bit_convolution(map_: str) -> Layer:
    """Return a convolution that quantizes weights and inputs to four bits by the map."""
    quantizer = {"map": map_, "bits": 4}
    return functools.partial(QuantConv2d, weight_quantizer=quantizer, input_quantizer=quantizer)


MAPS: dict[str, tuple[object, object]] = {
    "BitNet x token, W1.58A8": ("bitnet", "token"),
    "LSQ per channel, W4A4": (
        {"map": "lsq", "bits": 4, "granularity": "channel"},
        {"map": "lsq", "bits": 4},
    ),
    "LSQ+, W4A4": ({"map": "lsq_plus", "bits": 4}, {"map": "lsq_plus", "bits": 4}),
    "DoReFa, W4A4": ({"map": "dorefa", "bits": 4}, {"map": "dorefa", "bits": 4}),
    "uniform x PACT, W4A4": ({"map": "uniform", "bits": 4}, {"map": "pact", "bits": 4}),
    "TWN x uniform, W1.58A8": ("twn", {"map": "uniform", "bits": 8}),
    "APoT, W4A4": ({"map": "apot", "bits": 4}, {"map": "apot", "bits": 4}),
    "N2UQ, W4A4": ({"map": "n2uq_weights", "bits": 4}, {"map": "n2uq", "bits": 4}),
}  # weight and input quantizers as people use them


def recipe_networks() -> dict[str, tuple[Callable[[object], nn.Module], int]]:
    """The networks of recipes as they are: title -> (network of a quantizer or None, batch)."""

    def of(name: str) -> tuple[Callable[[str | None], nn.Module], int]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [f"+recipe={name}"])
        given = OmegaConf.to_container(config.model.network, resolve=True)

        def network(quantizer: object) -> nn.Module:
            both = {"weight_quantizer": quantizer, "input_quantizer": quantizer}
            return instantiate({**given, **both}, _convert_="all")

        return network, config.data.batch_size

    register()  # of the recipes' place
    names = ("mnist5000_cnn", "fashion_mnist_cnn", "fashion_mnist_vgg_small")
    return {name: of(name) for name in (*names, "fashion_mnist_resnet20")}


def normalized(layer: Layer, width: int = 1024, depth: int = 3) -> nn.Module:
    """``depth`` times layer norm and a linear layer of one width, then a head of ten."""
    blocks = [m for _ in range(depth) for m in (nn.LayerNorm(width), layer(width, width))]
    return nn.Sequential(*blocks, nn.Linear(width, 10))


def every_map() -> dict[str, nn.Module]:
    """Return networks of three normalized linear layers, one for every row of ``MAPS``."""
    nets = {"float": normalized(nn.Linear)}
    for name, (weights, inputs) in MAPS.items():
        quantizers = {"weight_quantizer": weights, "input_quantizer": inputs}
        nets[f"ours, {name}"] = normalized(functools.partial(QuantLinear, **quantizers))
    return nets
