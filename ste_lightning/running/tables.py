"""Tables on the terminal."""

from __future__ import annotations

from rich.table import Table

__all__ = ["table"]


def table(title: str, *columns: str) -> Table:
    """Return an empty table: names at the left, numbers at the right."""
    found = Table(title=title, title_justify="left", title_style="bold", show_edge=False)
    for index, column in enumerate(columns):
        found.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return found
