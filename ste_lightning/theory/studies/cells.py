"""The cells of a study's grid."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ste_lightning.errors import require, unknown
from ste_lightning.functional import Surrogate, surrogate
from ste_lightning.theory.bands import train_in_bands
from ste_lightning.theory.counterexamples import counterexample
from ste_lightning.theory.deep import train_deep
from ste_lightning.theory.disguise import compare_rule
from ste_lightning.theory.large import train_large
from ste_lightning.theory.linear import train_linear
from ste_lightning.theory.low_bit import train_low_bit
from ste_lightning.theory.monte_carlo import sample_coarse_gradient
from ste_lightning.theory.network_recurrence import train_recurring_layer
from ste_lightning.theory.network_windows import train_window_network
from ste_lightning.theory.order import train_in_order
from ste_lightning.theory.oscillating_networks import train_oscillating_network
from ste_lightning.theory.oscillation import train_oscillating
from ste_lightning.theory.proximal import train_proximal
from ste_lightning.theory.share import train_share
from ste_lightning.theory.simulate import simulate
from ste_lightning.theory.votes import train_votes
from ste_lightning.theory.window_samples import sample_window

__all__ = [
    "COMPILED",
    "EXPERIMENTS",
    "NUMBERS",
    "RUN_SETTINGS",
    "Cell",
    "expand",
    "label",
    "rule_of",
    "shrink",
]

# Raise it when the engine's numbers change: stored cells of another number are not reused.
NUMBERS = 2

EXPERIMENTS: dict[str, Callable[..., Any]] = {
    "simulate": simulate,
    "recurrence": simulate,  # and its prediction
    "deep": train_deep,
    "large": train_large,
    "linear": train_linear,
    "low_bit": train_low_bit,
    "bands": train_in_bands,
    "disguise": compare_rule,
    "coarse_gradient": sample_coarse_gradient,
    "order": train_in_order,
    "oscillating_network": train_oscillating_network,
    "oscillation": train_oscillating,
    "proximal": train_proximal,
    "recurring_layer": train_recurring_layer,
    "share": train_share,
    "votes": train_votes,
    "window_network": train_window_network,
    "window_samples": sample_window,
}
"""What a cell may run: its setting ``experiment``, by default ``simulate``."""

COMPILED = {"simulate", "recurrence", "large", "linear"}
"""Experiments whose loops hold no interpreter lock: threads of one process work side by side."""

RUN_SETTINGS = {"backend", "device", "threads", "memory", "lazy"}
"""How a cell is computed, not what: no part of a study."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One simulation of a study.

    Attributes:
        settings: arguments of the experiment, plain data only; ``experiment`` names it where
            it is not :func:`ste_lightning.theory.simulate`.
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
        s = {"n": 1, "samples": 1, "m": 4, "trials": 64, "steps": 2000, **self.settings}
        return float(s["trials"] * (s["samples"] * s["m"] * s["n"] + 1000) * s["steps"])


def rule_of(spec: Any) -> Surrogate:
    """Return the rule of a name, ``{"rule": name, ...}`` or ``{"counterexample": name}``."""
    if isinstance(spec, Mapping) and "counterexample" in spec:
        return counterexample(spec["counterexample"])
    return surrogate(spec)


def label(spec: Any) -> str:
    """Return a short name of a setting's value: ``relu``, ``clipped(width=0.5)``."""
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return "(" + ", ".join(f"{value:g}" for value in spec) + ")"
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


def expand(
    base: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    parts: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
) -> list[Cell]:
    """Return the cells of a grid: ``base`` with every combination of the grid's values.

    One key is not an argument of an experiment: ``samples_per_input`` r sets
    samples = round(r n), at least 2; it takes the place of ``samples``.

    Args:
        base: settings that all cells share.
        grid: setting -> its values.
        parts: further grids by name, each completed by ``grid``; then the cells are those of
            all parts. For what is not a product, such as other N for every n.

    Raises:
        ConfigurationError: for a setting that the experiment does not have, or an empty list.
    """
    cells: dict[str, Cell] = {}
    for name, part in (parts or {"": {}}).items():
        path = f"parts.{name}" if name else "grid"
        for cell in _product(base, {**grid, **part}, path):
            cells.setdefault(cell.key, cell)
    return list(cells.values())


def shrink(cells: Sequence[Cell], largest: int = 32) -> list[Cell]:
    """Return a small version of a study: an eighth of the trials, at least 8, and no large n.

    Args:
        cells: of the study.
        largest: n that stay; where all are larger, the smallest does.

    Returns:
        The cells of the small version. Intervals are wide, and what only larger n show is not in
        it.
    """
    small: dict[str, Cell] = {}
    largest = max(largest, min(_size(cell.settings) for cell in cells))
    for cell in cells:
        settings = dict(cell.settings)
        experiment = EXPERIMENTS[settings.get("experiment", "simulate")]
        parameter = inspect.signature(experiment).parameters.get("trials")
        if parameter is not None:
            trials = settings.get("trials", parameter.default)
            settings["trials"] = min(trials, max(8, trials // 8))
        if _size(settings) <= largest:
            shrunk = Cell(settings)
            small.setdefault(shrunk.key, shrunk)
    return list(small.values())


def _size(settings: Mapping[str, Any]) -> int:
    """Return n; an experiment that has none keeps all of its cells."""
    return int(settings.get("n", 0))


def _product(
    base: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], path: str
) -> Iterator[Cell]:
    experiment = str(base.get("experiment", "simulate"))
    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    parameters = inspect.signature(EXPERIMENTS[experiment]).parameters
    known = set(parameters) - RUN_SETTINGS
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    for name in (*base, *grid):
        if name not in known | {"experiment", "samples_per_input"}:
            raise unknown("setting of a study", name, known)
    for name, values in grid.items():
        require(len(values) > 0, f"{path}.{name}", values, "give at least one value")
    for values in itertools.product(*grid.values()):
        settings = {**base, **dict(zip(grid, values, strict=True))}
        ratio = settings.pop("samples_per_input", None)
        if ratio is not None:
            settings["samples"] = max(2, round(ratio * settings["n"]))
        require(
            settings.keys() >= set(needed), path, sorted(settings), f"set {' and '.join(needed)}"
        )
        yield Cell(settings)
