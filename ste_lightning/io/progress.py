"""Progress bars with the time left: on a terminal; files and pipes get none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["on_terminal", "progress", "waiting"]


def on_terminal() -> bool:
    """Return whether somebody looks: neither results nor messages go into a file or a pipe."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def progress(show: bool = True) -> Progress:
    """Return a bar for work of known length: what it is, how far, the time taken and left.

    Args:
        show: whether to draw it where somebody looks.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=Console(stderr=True),
        disable=not (show and on_terminal()),
    )


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Say what takes its time while it does, where its length is not known.

    Args:
        doing: "drawing the figures", say.
    """
    if not on_terminal():
        yield
        return
    with Console(stderr=True).status(f"{doing} ..."):
        yield
