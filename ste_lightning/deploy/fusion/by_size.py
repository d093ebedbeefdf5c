"""What is derived for each size of the input, kept for the sizes that come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["BySize"]

_MOST = 64


class BySize(dict[tuple[int, ...], Any]):
    """Values by spatial size, made at the first use; many sizes forget the earlier ones.

    Args:
        make: makes the value of a size.
    """

    def __init__(self, make: Callable[[tuple[int, ...]], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, size: tuple[int, ...]) -> Any:
        """Make a value."""
        if len(self) >= _MOST:
            self.clear()
        made = self[size] = self._make(tuple(size))
        return made
