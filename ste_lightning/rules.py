"""Backward rules, quantizers and schedules: ``python -m ste_lightning.rules [--plot DIR]``.

Prints one table of backward rules (equation, parameters, what they remember for the backward
pass, operands, source), one of quantizers and one of schedules. ``--plot DIR`` also draws rules
and quantizers.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from torch import nn

    from ste_lightning.functional import Surrogate

__all__ = [
    "example_quantizers",
    "example_rules",
    "main",
    "quantizer_table",
    "rule_table",
    "schedule_table",
]

_OF_THE_LAYER = ("self", "rule", "params", "operand", "channel_dim")


def rule_table() -> Table:
    """Return the table of backward rules."""
    from rich.table import Table

    from ste_lightning.functional import rule_class, surrogate_names

    table = Table(title="Backward rules", header_style="bold", row_styles=("", "dim"))
    for column in ("rule", "parameters", "derivative", "remembers", "for", "source"):
        table.add_column(column, overflow="fold", no_wrap=column in ("rule", "remembers"))
    for name in surrogate_names():
        rule = rule_class(name)
        equation = rule.equation.removeprefix("f'(x) = ")
        operands = _operands(rule.operands)
        _add(table, name, _fields(rule), equation, rule.remembers, operands, rule.paper)
    return table


def quantizer_table() -> Table:
    """Return the table of quantizers (forward maps)."""
    from rich.table import Table

    from ste_lightning.quantizers import quantizer_class, quantizer_names

    table = Table(title="Quantizers", header_style="bold", row_styles=("", "dim"))
    for column in ("map", "parameters", "forward", "default rule", "for", "source"):
        table.add_column(column, overflow="fold", no_wrap=column in ("map", "default rule"))
    for name in quantizer_names():
        cls = quantizer_class(name)
        operands = _operands(getattr(cls, "operands", frozenset({"weights", "activations"})))
        rule = getattr(cls, "default_rule", "")
        _add(table, name, _arguments(cls), _summary(cls), rule, operands, _source(cls))
    return table


def schedule_table() -> Table:
    """Return the table of schedules, and of what presets drive by them."""
    from rich.table import Table

    from ste_lightning.functional.schedules import PRESETS, SCHEDULES

    table = Table(title="Schedules", header_style="bold", row_styles=("", "dim"))
    for column in ("schedule", "parameters", "value at progress p", "presets that use it"):
        table.add_column(column, overflow="fold", no_wrap=column == "schedule")
    for name, function in SCHEDULES.items():
        parameters = list(inspect.signature(function).parameters.values())[1:]
        arguments = ", ".join(f"{p.name} = {p.default}" for p in parameters)
        used = [preset for preset, driven in PRESETS.items() if name in driven.values()]
        _add(table, name, arguments or "-", _summary(function), ", ".join(used) or "-")
    return table


def example_rules() -> list[Surrogate]:
    """Return every registered rule with its default parameters, by name.

    The rule ``custom`` has none; 1 / cosh(x) stands for a user's own.
    """
    from ste_lightning.functional import surrogate, surrogate_names

    own = {"custom": {"derivative": _bell}}
    return [surrogate(name, **own.get(name, {})) for name in surrogate_names()]


def example_quantizers() -> list[tuple[str, nn.Module]]:
    """Return every registered quantizer with a title; of k-bit ones, those with three bits."""
    from ste_lightning.quantizers import build, quantizer_class, quantizer_names

    found = []
    for name in quantizer_names():
        cls = quantizer_class(name)
        few = {"bits": 3} if "bits" in inspect.signature(cls.__init__).parameters else {}
        weights = getattr(cls, "operands", None) == {"weights"}
        quantizer = build({"map": name, **few}, "weights" if weights else "activations")
        assert quantizer is not None
        found.append((f"{name}  (3 bits)" if few else name, quantizer))
    return found


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain text: 1[x > 0] is no markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))


def _bell(x: Any) -> Any:
    return 1 / x.cosh()


def _fields(rule: type[Surrogate]) -> str:
    missing = dataclasses.MISSING
    parts = [
        field.name if field.default in (missing, None) else f"{field.name} = {field.default:g}"
        for field in dataclasses.fields(rule)
    ]
    return ", ".join(parts) or "-"


def _arguments(cls: type[nn.Module]) -> str:
    parameters = inspect.signature(cls.__init__).parameters.values()
    return ", ".join(f"{p.name} = {p.default}" for p in parameters if p.name not in _OF_THE_LAYER)


def _operands(operands: frozenset[str]) -> str:
    return "both" if len(operands) == 2 else ", ".join(sorted(operands))


def _summary(documented: object) -> str:
    """Return the docstring's first sentence, without its markup."""
    first = (inspect.getdoc(documented) or "").split("\n\n")[0].replace("\n", " ")
    plain = re.sub(r":\w+:`([^`]*)`", r"\1", first).replace("``", "")
    return plain.removeprefix("Return ").rstrip(".")


def _source(cls: type[nn.Module]) -> str:
    """Return what the docstring gives as its source."""
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", inspect.getdoc(cls) or "", re.M | re.S)
    return " ".join(found.group(1).split()).rstrip(".") if found else ""


def _draw(folder: Path) -> list[Path]:
    from ste_lightning.figures.rules import (
        gallery,
        quantizer_figure,
        rule_figure,
        staircase_gallery,
    )
    from ste_lightning.io.progress import progress

    rules, quantizers = example_rules(), example_quantizers()
    figures: dict[str, Callable[[], Figure]] = {
        "rules": lambda: gallery(rules),
        "quantizers": lambda: staircase_gallery(quantizers),
    }
    figures |= {f"rule-{rule.name}": partial(rule_figure, rule) for rule in rules}
    for title, quantizer in quantizers:
        figures[f"quantizer-{title.split()[0]}"] = partial(quantizer_figure, title, quantizer)
    written = []
    with progress() as bar:
        for name, draw in bar.track(figures.items(), description=f"{len(figures)} figures"):
            path, begun = folder / f"{name}.png", folder / f".{name}.part"
            draw().savefig(begun, format="png", dpi=140)
            written.append(begun.replace(path))
    return written


def _folder(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError("name a folder")
    return Path(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and, if asked, draw the gallery.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 if the folder cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.rules",
        description="Backward rules, quantizers and schedules, with parameters and sources.",
    )
    parser.add_argument(
        "--plot", metavar="DIR", type=_folder, help="draw the gallery into this folder"
    )
    options = parser.parse_args(arguments)

    def refused(error: OSError) -> int:
        print(f"error: --plot {options.plot}: {error.strerror}.", file=sys.stderr)
        return 1

    if options.plot is not None:
        try:
            options.plot.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # said before a minute of drawing
            return refused(error)

    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(rule_table(), quantizer_table(), schedule_table())
    if options.plot is not None:
        try:
            written = _draw(options.plot)
        except OSError as error:
            return refused(error)
        console.print(f"{len(written)} figures in {options.plot}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
