"""How many levels a bit width has, and what shape a scale has."""

from __future__ import annotations

from torch import Tensor

from ste_lightning.errors import require, unknown

__all__ = ["GRANULARITIES", "check_bits", "check_granularity", "reduced_axes", "signed_range"]

GRANULARITIES = ("tensor", "channel")


def check_bits(bits: int, low: int = 1, high: int = 8) -> int:
    """Return ``bits`` if it is a whole number from ``low`` to ``high``.

    Raises:
        ConfigurationError: with the remedy for 0, for fractions and for too many bits.
    """
    require(
        isinstance(bits, int) and not isinstance(bits, bool) and low <= bits <= high,
        "bits",
        bits,
        f"use a whole number from {low} to {high}, 'sign' for one bit, 'ternary' for 1.58, or no "
        "quantizer (None) for more",
    )
    return bits


def signed_range(bits: int) -> tuple[int, int]:
    """Return (-2^(b-1), 2^(b-1) - 1), the two's complement levels of ``bits`` bits."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def check_granularity(granularity: str) -> str:
    """Return ``granularity`` if it is ``"tensor"`` or ``"channel"``."""
    if granularity not in GRANULARITIES:
        raise unknown("granularity", granularity, GRANULARITIES)
    return granularity


def reduced_axes(x: Tensor, granularity: str, channel_dim: int = 0) -> tuple[int, ...]:
    """Return the axes over which one scale is shared: all, or all but the channel's."""
    if granularity == "tensor" or x.dim() == 0:
        return tuple(range(x.dim()))
    return tuple(d for d in range(x.dim()) if d != channel_dim % x.dim())
