"""Colours that readers with any colour vision tell apart.

Source: Okabe and Ito 2002, *Color universal design*; without their yellow, too pale for lines on
white.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PALETTE",
    "PALE_BLUE",
    "PALE_GREEN",
    "PALE_ORANGE",
    "PURPLE",
    "palette",
]  # fmt: skip

BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#222222", "#8a8a8a",
)  # fmt: skip
PALE_BLUE, PALE_ORANGE, PALE_GREEN = "#a6cfe6", "#f7e0cf", "#c5e8dc"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#56b4e9", "#e69f00", BLACK)


def palette() -> Iterator[str]:
    """Return colours without end, to be zipped with what is drawn: seven, then again."""
    return itertools.cycle(PALETTE)
