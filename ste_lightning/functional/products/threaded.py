"""Compiled code of rows and of totals, shared among threads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ste_lightning.functional.saved.codes import LEAST
from ste_lightning.kernels.jit.threads import share, shared_sum

__all__ = ["added_up", "by_rows"]


def by_rows(
    work: Callable[..., None], elements: tuple[Tensor, ...], *numbers: Tensor | float, rows: int
) -> None:
    """Call compiled code of rows for all of them; a single row is shared among threads in parts.

    Args:
        work: takes addresses of ``elements`` and of tensors of ``rows`` numbers, numbers, the
            length of a row, and the first and the last row.
    """
    given = [t.data_ptr() for t in elements]
    others = [t.data_ptr() if isinstance(t, Tensor) else t for t in numbers]
    count = elements[0].numel()
    if rows == 1:
        share(lambda a, b: work(*(p + 4 * a for p in given), *others, b - a, 0, 1), count, LEAST)
        return
    inner = count // max(rows, 1)
    least = 1 + LEAST // max(inner, 1)
    share(lambda a, b: work(*given, *others, inner, a, b), rows, least)


def added_up(work: Callable[[int, int, int], None], totals: int, elements: int) -> Tensor:
    """Return float64 totals over elements, of which threads take parts; these are added in order.

    Args:
        work: adds to totals at an address what a part, from its first to its last element, has.
        totals: how many.
        elements: how many; one or more.
    """

    def part(first: int, last: int) -> Tensor:
        found = torch.zeros(totals, dtype=torch.float64)
        work(found.data_ptr(), first, last)
        return found

    return shared_sum(part, elements, LEAST)
