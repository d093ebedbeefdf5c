"""The cells of a study's grid."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.errors import require, unknown
from ste_lightning.functional import Surrogate, surrogate
from ste_lightning.theory.counterexamples import counterexample
from ste_lightning.theory.simulate import simulate

__all__ = ["Cell", "expand", "label", "rule_of"]

# Raise it when the engine's numbers change: stored cells of another number are not reused.
NUMBERS = 2

_RUN_SETTINGS = {"backend", "device", "threads", "memory", "lazy"}
_SETTINGS = set(inspect.signature(simulate).parameters) - _RUN_SETTINGS


@dataclasses.dataclass(frozen=True)
class Cell:
    """One simulation of a study.

    Attributes:
        settings: arguments of :func:`ste_lightning.theory.simulate`, plain data only.
    """

    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name of the cell's file: the same for the same settings, on every machine."""
        text = json.dumps({"numbers": NUMBERS, **self.settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def cost(self) -> float:
        """Expected work, for the order of the cells and the time left; arbitrary unit."""
        s = {"m": 4, "trials": 64, "steps": 2000, **self.settings}
        return float(s["trials"] * (s["samples"] * s["m"] * s["n"] + 1000) * s["steps"])


def rule_of(spec: Any) -> Surrogate:
    """Return the rule of a name, ``{"rule": name, ...}`` or ``{"counterexample": name}``."""
    if isinstance(spec, Mapping):
        params = dict(spec)
        if "counterexample" in params:
            return counterexample(params["counterexample"])
        return surrogate(params.pop("rule", ""), **params)
    return surrogate(spec)


def label(spec: Any) -> str:
    """Return a short name of a setting's value: ``relu``, ``clipped(width=0.5)``."""
    if not isinstance(spec, Mapping):
        return str(spec)
    params = dict(spec)
    for kind in ("rule", "name", "counterexample"):
        if kind in params:
            name = str(params.pop(kind))
            inner = ", ".join(
                f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in params.items()
            )
            return f"{name}({inner})" if inner else name
    return json.dumps(params)


def expand(base: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Return the cells of a grid: ``base`` with every combination of the grid's values.

    Two keys are not arguments of ``simulate``: ``samples_per_input`` r sets
    samples = round(r n), at least 2; it takes the place of ``samples``.

    Args:
        base: settings that all cells share.
        grid: setting -> its values.

    Raises:
        ConfigurationError: for a setting that ``simulate`` does not have, or an empty list.
    """
    known = _SETTINGS | {"samples_per_input"}
    for name in (*base, *grid):
        if name not in known:
            raise unknown("setting of a study", name, known)
    for name, values in grid.items():
        require(len(values) > 0, f"grid.{name}", values, "give at least one value")
    cells: dict[str, Cell] = {}
    for values in itertools.product(*grid.values()):
        settings = {**base, **dict(zip(grid, values, strict=True))}
        ratio = settings.pop("samples_per_input", None)
        if ratio is not None:
            settings["samples"] = max(2, round(ratio * settings["n"]))
        require(
            "n" in settings and "samples" in settings, "grid", sorted(settings), "set n and samples"
        )
        cell = Cell(settings)
        cells.setdefault(cell.key, cell)
    return list(cells.values())
