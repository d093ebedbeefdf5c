"""How many levels a bit width has, and what shape a scale has."""

from __future__ import annotations

from torch import Tensor

from ste_lightning.errors import require, unknown

__all__ = [
    "GRANULARITIES",
    "check_bits",
    "check_granularity",
    "join_groups",
    "joined_scale",
    "reduced_axes",
    "signed_range",
    "split_groups",
]

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


def check_granularity(granularity: str, group_size: int | None = None) -> str:
    """Return the granularity: ``"tensor"``, ``"channel"``, or ``"group"`` with a group size.

    Raises:
        ConfigurationError: for another name, and for a group size that is not a positive integer
            or missing.
    """
    if granularity not in (*GRANULARITIES, "group"):
        raise unknown("granularity", granularity, (*GRANULARITIES, "group"))
    if group_size is None:
        require(granularity != "group", "group_size", group_size, "give how many share a scale")
        return granularity
    whole = isinstance(group_size, int) and not isinstance(group_size, bool)
    require(whole and group_size >= 1, "group_size", group_size, "use a positive integer")
    return "group"


def split_groups(x: Tensor, group_size: int | None, channel_dim: int = 0) -> Tensor:
    """Return weights as (outputs, groups, group_size); as they are without a group size.

    Raises:
        ConfigurationError: if the groups do not divide the inputs of one output.
    """
    if group_size is None:
        return x
    rows = x.movedim(channel_dim, 0).flatten(1)
    require(
        rows.shape[1] % group_size == 0,
        "group_size",
        group_size,
        f"it must divide the {rows.shape[1]} inputs of one output channel",
    )
    return rows.reshape(rows.shape[0], -1, group_size)


def join_groups(groups: Tensor, x: Tensor, group_size: int | None, channel_dim: int = 0) -> Tensor:
    """Undo :func:`split_groups`: give ``groups`` the layout of ``x``."""
    if group_size is None:
        return groups
    return groups.reshape(x.movedim(channel_dim, 0).shape).movedim(0, channel_dim)


def joined_scale(scale: Tensor, x: Tensor, group_size: int | None, channel_dim: int = 0) -> Tensor:
    """Return a scale per group for every element of ``x``; other scales as they are."""
    if group_size is None:
        return scale
    groups = split_groups(x, group_size, channel_dim)
    return join_groups(scale.expand_as(groups), x, group_size, channel_dim)


def reduced_axes(x: Tensor, granularity: str, channel_dim: int = 0) -> tuple[int, ...]:
    """Return the axes over which one scale is shared: all, all but the channel's, or the last."""
    if granularity == "group":
        return (x.dim() - 1,)
    if granularity == "tensor" or x.dim() == 0:
        return tuple(range(x.dim()))
    return tuple(d for d in range(x.dim()) if d != channel_dim % x.dim())
