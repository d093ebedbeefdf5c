"""Progress bars with the time left: on a terminal; files and pipes get none."""

from __future__ import annotations

import datetime
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["on_terminal", "progress", "stages"]


def on_terminal() -> bool:
    """Return whether somebody looks: neither results nor messages go into a file or a pipe."""
    return sys.stdout.isatty() and sys.stderr.isatty()


class _Left(TimeRemainingColumn):
    """Time left; of few stages, if the others take as long as those that are done."""

    def render(self, task: Task) -> Text:
        """Return hours, minutes and seconds, or dashes while nothing is done."""
        at = task.fields.get("at")
        if not at or not task.total:
            return super().render(task)
        left = max(at / task.completed * task.total - (task.elapsed or 0.0), 0.0)
        return Text(str(datetime.timedelta(seconds=round(left))), style="progress.remaining")


class _Bar(Progress):
    """A bar that says nothing at all where it is hidden: rich 13.9 ends it with a new line."""

    def stop(self) -> None:
        """End what was begun."""
        if not self.disable:
            super().stop()


def progress(show: bool = True, transient: bool = False) -> Progress:
    """Return a bar for work of known length: what it is, how far, the time taken and left.

    Args:
        show: whether to draw it where somebody looks.
        transient: whether it disappears when the work is done.
    """
    return _Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        _Left(elapsed_when_finished=False),
        console=Console(stderr=True),
        transient=transient,
        disable=not (show and on_terminal()),
    )


@contextmanager
def stages(count: int) -> Iterator[Callable[[str], None]]:
    """Show a bar over a few stages of work while it is done.

    Args:
        count: how many stages there are.

    Yields:
        A function to call where a stage begins, with what it does: "drawing the figures", say.
    """
    with progress(transient=True) as bar:
        task = bar.add_task("", total=count)
        begun = itertools.count()

        def begin(doing: str) -> None:
            done, at = next(begun), bar.tasks[0].elapsed
            bar.update(task, completed=done, description=doing, at=at if done else None)

        yield begin
