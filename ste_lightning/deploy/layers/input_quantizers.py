"""How a packed layer quantizes its input.

A quantizer that acts on each element by itself and the same way every time is a staircase, and
is kept as its thresholds: level = lowest + number of thresholds t with s x >= t, per channel
where a batch norm has been folded in. They are found by evaluating the quantizer, so a packed
layer rounds exactly as the trained one, whatever its formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.errors import require
from ste_lightning.kernels import SIGNS, STEPS, Codes, levels

__all__ = ["BinaryInput", "FloatInput", "Input", "LevelsInput", "TokenInput"]


class Input(Opaque):
    """Base of the input quantizers of packed layers.

    Attributes:
        codes: what the codes stand for, or ``None`` where the input stays float.
    """

    codes: Codes | None = None
    kind = ""
    scale: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized ``x``, whose channels are on the last axis."""
        return self.called(x)

    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the quantized ``x``, whose channels are on the last axis."""
        return self.values(x, x.dim() - 1)

    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type."""
        return torch.empty_like(x)

    def encode(self, x: Tensor, channel_dim: int) -> Tensor:
        """Return the uint8 codes of ``x``, whose channels are on an axis."""
        raise TypeError(f"{type(self).__name__} has no codes")

    def values(self, x: Tensor, channel_dim: int, integers: bool = False) -> Tensor:
        """Return the quantized ``x`` as floats; as integers where a level shall be worth 1."""
        if self.codes is None:
            return x
        levels = self.encode(x, channel_dim).to(x.dtype) * self.codes.step + self.codes.offset
        return levels if integers else levels * self.scale

    def spec(self) -> dict[str, Any]:
        """Return the plain description from which ``load`` builds the module again."""
        return {"kind": self.kind}


class FloatInput(Input):
    """The input stays as it is: only the weights are quantized."""

    kind = "float"


class BinaryInput(Input):
    """Codes 1[s x + b >= 0] (sign) or 1[s x + b > 0] (step), s and b per channel.

    Args:
        name: ``"sign"`` or ``"step"``.
        channels: number of channels with a threshold of their own; 0 for s = 1, b = 0.
        scale: what a level is worth.
    """

    kind = "binary"
    factor: Tensor | None
    offset: Tensor | None

    def __init__(self, name: str, channels: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        require(name in ("sign", "step"), "name", name, "use 'sign' or 'step'")
        self.name = name
        self.codes = SIGNS if name == "sign" else STEPS
        self.scale = float(scale)
        require(self.scale != 0, "scale", scale, "a level must be worth something")
        self.register_buffer("factor", torch.ones(channels) if channels else None)
        self.register_buffer("offset", torch.zeros(channels) if channels else None)

    def spec(self) -> dict[str, Any]:
        """Return the plain description."""
        channels = 0 if self.factor is None else self.factor.numel()
        return {"kind": self.kind, "name": self.name, "channels": channels, "scale": self.scale}

    def shifted(self, x: Tensor, channel_dim: int) -> Tensor:
        """Return s x + b."""
        if self.factor is None or self.offset is None:
            return x
        shape = [1] * x.dim()
        shape[channel_dim] = -1
        return x * self.factor.to(x.dtype).view(shape) + self.offset.to(x.dtype).view(shape)

    def encode(self, x: Tensor, channel_dim: int) -> Tensor:
        """Return the uint8 codes of ``x``."""
        x = self.shifted(x, channel_dim)
        return ((x > 0) if self.name == "step" else ~(x < 0)).to(torch.uint8)

    def extra_repr(self) -> str:
        """Return the map and whether it has thresholds."""
        return self.name + ("" if self.factor is None else ", thresholds per channel")


class LevelsInput(Input):
    """Codes: the number of thresholds t with s x >= t.

    Args:
        bits: 1 to 8; there are at most 2^bits - 1 thresholds.
        lowest: the integer level of code 0.
        scale: what a level is worth.
        channels: 1, or one row of thresholds for each channel.
        count: number of thresholds.
    """

    kind = "levels"
    thresholds: Tensor
    factor: Tensor

    def __init__(self, bits: int, lowest: int, scale: float, channels: int, count: int) -> None:
        super().__init__()
        self.codes = Codes(bits, 1, lowest)
        require(0 < count < 2**bits, "count", count, f"use 1 to {2**bits - 1}")
        require(channels >= 1, "channels", channels, "use a positive integer")
        self.scale = float(scale)
        require(self.scale != 0, "scale", scale, "a level must be worth something")
        self.register_buffer("thresholds", torch.zeros(channels, count))
        self.register_buffer("factor", torch.ones(channels))

    def spec(self) -> dict[str, Any]:
        """Return the plain description."""
        assert self.codes is not None
        return {
            "kind": self.kind,
            "bits": self.codes.bits,
            "lowest": self.codes.offset,
            "scale": self.scale,
            "channels": self.thresholds.shape[0],
            "count": self.thresholds.shape[1],
        }

    def encode(self, x: Tensor, channel_dim: int) -> Tensor:
        """Return the uint8 codes of ``x``; not-a-number gets the highest."""
        factor = None if len(self.thresholds) == 1 else self.factor
        return levels(x, self.thresholds, factor, channel_dim)

    def extra_repr(self) -> str:
        """Return bits and the number of thresholds."""
        assert self.codes is not None
        return f"bits={self.codes.bits}, thresholds={tuple(self.thresholds.shape)}"


class TokenInput(Input):
    """Levels clip(round(x / s), -2^(b-1), 2^(b-1) - 1), s = max|x| / (2^(b-1) - 1) per token.

    Args:
        bits: 2 to 8.
        smallest: least value of max|x|.

    Source: Wang et al. 2023, arXiv 2310.11453 (BitNet).
    """

    kind = "token"

    def __init__(self, bits: int, smallest: float = 1e-5) -> None:
        super().__init__()
        self.codes = Codes(bits, 1, -(2 ** (bits - 1)))
        self.smallest = smallest

    def spec(self) -> dict[str, Any]:
        """Return the plain description."""
        assert self.codes is not None
        return {"kind": self.kind, "bits": self.codes.bits, "smallest": self.smallest}

    def values(self, x: Tensor, channel_dim: int, integers: bool = False) -> Tensor:
        """Return each token on its own grid."""
        assert self.codes is not None
        codes, scale = self.encode_tokens(x)
        return (codes.to(x.dtype) + self.codes.offset) * scale

    def encode_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes, and the scale of each token."""
        assert self.codes is not None
        low = self.codes.offset
        scale = x.abs().amax(dim=-1, keepdim=True).clamp_min(self.smallest) / (-low - 1)
        levels = (x / scale).round().clamp(low, -low - 1)
        return (levels - low).to(torch.uint8), scale
