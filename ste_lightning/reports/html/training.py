"""What was measured while a run trained, as charts: learning curves, quantizers, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.callbacks.quantization_monitor import REACH
from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import Chart, Part, Table, Text, number

__all__ = [
    "History",
    "histograms",
    "learning_curves",
    "points_table",
    "quantizer_charts",
    "thinned",
]

History = Sequence[Mapping[str, float]]

_COLUMNS, _LAYERS, _POINTS = 40, 12, 400  # of a heat map in time; layers drawn; points of a line
_STAGES = {"train": "training", "val": "validation"}
_ELSEWHERE = ("test", "quantization", "final")  # not told of as learning curves
_MEASURES = {
    "flip_ratio": ("Flips", "share of weights that change level in a step",
                   "It should fall with the learning rate; a layer that stays high oscillates."),
    "no_gradient": ("Saturation", "share of weights without a gradient",
                    "These weights cannot move: the backward rule's derivative is zero there."),
    "dead_channels": ("Dead channels", "share of input channels on one level",
                      "A channel that never changes tells the layer nothing."),
    "scale_drift": ("Scales", "octaves since the start",
                    "How far each layer's weight scale has moved; 1 is twice as large."),
    "sign_entropy": ("Use of the levels", "entropy in bits",
                     "1 bit for balanced signs; a layer near 0 has died."),
    "estimating_error": ("Estimating error", "distance of sign and pretended function",
                         "Small where the pretended function is close to the real one."),
}  # fmt: skip


def learning_curves(history: History) -> list[Part]:
    """Return what is logged while a run trains, training beside validation; flat ones in words.

    Args:
        history: rows of metrics.csv.
    """
    named: dict[str, dict[str, str]] = {}
    for column in _columns_of(history):
        if column in ("epoch", "step") or column.startswith("test_"):
            continue
        stage, slash, quantity = column.partition("/")
        if not slash:
            stage, quantity = "value", column
        if stage not in _ELSEWHERE:
            named.setdefault(quantity, {})[_STAGES.get(stage, stage)] = column
    parts: list[Part] = []
    flat: list[str] = []
    for quantity, columns in named.items():
        axis, found = _by_epoch_or_step(history, columns)
        values = {value for points in found.values() for _, value in points}
        if len(values) < 2:
            flat += [f"{quantity} {number(value)}" for value in values]
            continue
        spec = charts.lines(found, axis, quantity, "part")
        parts.append(Chart(quantity, _told(found), spec, points_table(found, axis, quantity)))
    return [*parts, Text(f"The same all along: {', '.join(flat)}.")] if flat else parts


def _by_epoch_or_step(
    history: History, columns: Mapping[str, str]
) -> tuple[str, dict[str, list[tuple[float, float]]]]:
    """Return the axis and the curves: by steps where one epoch has several values, or is all."""
    epochs = {name: _points(history, column, "epoch") for name, column in columns.items()}
    places = [[place for place, _ in points] for points in epochs.values()]
    once = all(len(set(one)) == len(one) for one in places)
    if once and any(len(one) > 1 for one in places):
        axis, found = "epoch", epochs
    else:
        axis = "optimizer step"
        found = {name: _points(history, column, "step") for name, column in columns.items()}
    return axis, {name: thinned(points) for name, points in found.items() if len(points) > 1}


def _columns_of(history: History) -> list[str]:
    return list(dict.fromkeys(key for row in history for key in row))


def _points(history: History, column: str, axis: str) -> list[tuple[float, float]]:
    return [(row.get(axis, 0.0) + 1, row[column]) for row in history if column in row]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most some hundred points, the last one among them."""
    stride = -(-len(points) // _POINTS)
    return [*points[::stride], *([points[-1]] if (len(points) - 1) % stride else [])]


def _told(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    ends = [
        f"{name} from {number(p[0][1])} to {number(p[-1][1])}" for name, p in found.items() if p
    ]
    return f"{'; '.join(ends)}."


def points_table(
    found: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, most: int = 30
) -> Table:
    """Return series as a table, a column each.

    Args:
        found: name -> points (x, y).
        x, y: what they are.
        most: rows; of more places every k-th is shown.
    """
    places = sorted({place for points in found.values() for place, _ in points})
    places = places[:: -(-len(places) // most)]
    values = {name: dict(points) for name, points in found.items()}
    rows = [
        [number(place), *(number(values[n][place]) if place in values[n] else "" for n in found)]
        for place in places
    ]
    return Table(y, [x, *found], rows)


def quantizer_charts(history: History) -> list[Part]:
    """Return what the monitor has measured, by layer; what never changes is said in words.

    Args:
        history: rows of metrics.csv.
    """
    parts: list[Part] = []
    flat: list[str] = []
    columns = _columns_of(history)
    for measure, (title, axis, note) in _MEASURES.items():
        prefix = f"quantization/{measure}/"
        named = [column for column in columns if column.startswith(prefix)]
        if not named:
            continue
        found = {
            column.removeprefix(prefix): thinned(_points(history, column, "step"))
            for column in named[:_LAYERS]
        }
        values = {value for points in found.values() for _, value in points}
        if len(values) == 1:
            flat.append(f"{title}: {axis} {number(values.pop())} throughout, in every layer.")
            continue
        more = f" The first {_LAYERS} of {len(named)} layers." if len(named) > _LAYERS else ""
        spec = charts.lines(
            found, "optimizer step", axis, "layer", zero=axis.startswith(("share", "entropy"))
        )
        if len(named) == 1:
            more = f" The layer is {next(iter(found))}."
        said = f"{axis[0].upper()}{axis[1:]}. {note}{more}"
        parts.append(Chart(title, said, spec, points_table(found, "step", axis)))
    return [*parts, *map(Text, flat)]


def histograms(facts: Mapping[str, Any]) -> list[Part]:
    """Return how the latent weights of each layer spread over time.

    Args:
        facts: of :func:`ste_lightning.reports.html.network.facts_of_network`.
    """
    parts: list[Part] = []
    for name, points in list((facts.get("histograms") or {}).items())[:_LAYERS]:
        if len(points) < 2:
            continue
        points = points[:: -(-len(points) // _COLUMNS)]
        bins = len(points[0][1])
        middles = [REACH * (2 * (index + 0.5) / bins - 1) for index in range(bins)]
        shares = [[count / max(sum(counts), 1) for count in counts] for _, counts in points]
        inner = [sum(row[i] for i, m in enumerate(middles) if abs(m) < 0.25) for row in shares]
        spec = charts.heatmap(
            [step + 1 for step, _ in points],
            middles,
            shares,
            "optimizer step",
            "weight / mean |weight|",
            "share of weights",
        )
        note = (
            "Weights near 0 are about to flip: a quarter of the mean magnitude or closer are "
            f"{inner[0]:.0%} of them at first, {inner[-1]:.0%} at the end."
        )
        parts.append(Chart(name, note, spec))
    return parts
