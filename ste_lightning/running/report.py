"""The final table of a run and of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table

__all__ = ["metric_table", "print_line", "print_rows", "short"]


def short(value: object) -> str:
    """Format a number with four significant digits and anything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    return str(value)


def metric_table(
    metrics: Mapping[str, float], order: Sequence[str], expected: Mapping[str, Sequence[float]]
) -> RenderableType:
    """Return one line per metric, with the band that the recipe expects where it names one.

    Args:
        metrics: metric -> value.
        order: which metrics to show; empty shows all.
        expected: metric -> [lowest, highest] expected value.
    """
    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    if expected:
        table.add_column("recipe expects", justify="right")
    for name in _present(metrics, order):
        row = [name, short(metrics[name])]
        if expected:
            row.append(_band(metrics[name], expected.get(name)))
        table.add_row(*row)
    missed = any(
        name in metrics and not low <= metrics[name] <= high
        for name, (low, high) in expected.items()
    )
    note = "(!) outside the band, which holds for the recipe's own settings"
    return Group(table, note) if missed else table


def _present(metrics: Mapping[str, float], order: Sequence[str]) -> list[str]:
    return [name for name in order if name in metrics] or sorted(metrics)


def _band(value: float, band: Sequence[float] | None) -> str:
    if band is None:
        return ""
    low, high = band
    text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return text if low <= value <= high else f"[yellow]{text} (!)[/yellow]"


def print_line(
    settings: Sequence[str], metrics: Mapping[str, float], order: Sequence[str], seconds: float
) -> None:
    """Print one run of a sweep as one line: its settings, its first three metrics, its time."""
    shown = [f"{name} {short(metrics[name])}" for name in _present(metrics, order)][:3]
    Console().print(
        f"{' '.join(settings)}: {', '.join(shown)} ({seconds:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )


def print_rows(title: str, rows: Sequence[Mapping[str, object]], notes: Sequence[str] = ()) -> None:
    """Print a sweep's combined table, one line per setting.

    In a terminal cells that do not fit are folded; a file or a pipe gets lines as long as needed.
    """
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    last = [column.rpartition(".")[2] for column in columns]
    for column, part in zip(columns, last, strict=True):
        heading = part if last.count(part) == 1 else column
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(short(row.get(column, "")) for column in columns))
    console = Console()
    if not console.is_terminal:
        unlimited = console.options.update(max_width=100_000)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print()
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
