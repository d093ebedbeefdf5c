"""What a run says at its end: one panel with numbers, size, places and what to try next."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ste_lightning.convert import summary
from ste_lightning.convert.summary_table import size
from ste_lightning.running import files
from ste_lightning.running.report import metric_table

__all__ = ["next_commands", "show", "size_line", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_FLIPS = "quantization/flip_ratio"
_WIDTH = 40  # most characters of a sparkline


def sparkline(values: Sequence[float]) -> str:
    """Return numbers as a line of bars, the largest one being the highest; at most 40 of them."""
    if len(values) > _WIDTH:
        edges = [len(values) * i // _WIDTH for i in range(_WIDTH + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(value / most * 8), 7)] for value in values)


def size_line(model: Any) -> str:
    """Return the model's size when packed beside float32; nothing for a float model."""
    told = summary(model)
    if not told.parameters["1-bit"] + told.parameters["low-bit"]:
        return ""
    smaller = told.float_bytes / told.deployed_bytes
    return f"{size(told.deployed_bytes)} packed, {smaller:.1f} times smaller than float32"


def next_commands(folder: Path, packable: bool) -> list[str]:
    """Return what to try next with a run's folder.

    Args:
        folder: as it is to be typed.
        packable: whether the network has something to pack.
    """
    checkpoint = files.trained(folder)
    found = []
    if packable and checkpoint.is_file():
        packed = checkpoint.with_suffix(".packed.safetensors")
        found.append(f"python -m ste_lightning.export ckpt_path={checkpoint}")
        found.append(f"python -m ste_lightning.predict model={packed} input=PICTURES")
    if (folder / files.PAGE).is_file():
        found.append(f"open {folder / files.PAGE}")
    else:
        found.append(f"python -m ste_lightning.report {folder}")
    return found


def show(
    title: str,
    metrics: Mapping[str, float],
    order: Sequence[str],
    expected: Mapping[str, Sequence[float]],
    history: Sequence[Mapping[str, float]],
    packed: str,
    folder: Path,
    notes: Sequence[str],
) -> None:
    """Print the panel; a file or a pipe gets its lines without a frame.

    Args:
        title: the run's name and seed.
        metrics, order, expected: as for :func:`ste_lightning.running.report.metric_table`.
        history: rows of metrics.csv.
        packed: of :func:`size_line`.
        folder: the run's, as it is to be typed.
        notes: further lines.
    """
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    flips = [row[_FLIPS] for row in history if _FLIPS in row]
    if len(flips) > 1:
        text = f"{sparkline(flips)}  {flips[0]:.2g} to {flips[-1]:.2g} of the weights in a step"
        lines.add_row("flips", Text(text))
    if packed:
        lines.add_row("size", packed)
    lines.add_row("files", str(folder))
    for index, command in enumerate(next_commands(folder, bool(packed))):
        lines.add_row("next" if index == 0 else "", Text(command))
    for note in notes:
        lines.add_row("", Text(note))
    console = Console()
    told = Group(metric_table(metrics, order, expected), "", lines)
    if not console.is_terminal:
        unlimited = console.options.update(max_width=100_000)
        console.width = max(console.width, console.measure(told, options=unlimited).maximum)
    console.print()
    if console.is_terminal:
        console.print(Panel(told, title=title, title_align="left", expand=False))
    else:
        console.print(Text(title, style="bold"))
        console.print(told)
    sys.stdout.flush()
