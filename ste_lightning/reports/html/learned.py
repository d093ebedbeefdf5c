"""What quantizers learn beside the weights, as charts: scales, clipping levels, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import Chart, Part, Text, number
from ste_lightning.reports.html.training import points_table, thinned

__all__ = ["learned_charts"]

_LAYERS, _SINGLE = 12, 6  # lines of a chart; charts of one quantizer's values
_OPERANDS = {"weight_quantizer": "weights", "input_quantizer": "inputs"}


def learned_charts(facts: Mapping[str, Any]) -> list[Part]:
    """Return scales and thresholds over time, a chart for each kind with a line for each layer.

    Args:
        facts: of :func:`ste_lightning.reports.html.network.facts_of_network`.
    """
    kinds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, one in (facts.get("learned") or {}).items():
        path, _, key = name.rpartition(".")
        layer, _, operand = path.rpartition(".")
        if operand in _OPERANDS:
            kinds.setdefault(f"{key} of {_OPERANDS[operand]}", {})[layer or "(model)"] = one
        else:
            kinds.setdefault(key, {})[path or "(model)"] = one
    parts: list[Part] = []
    still: list[str] = []
    for kind, layers in kinds.items():
        values = {v for one in layers.values() for _, row in one["points"] for v in row}
        if len(values) == 1:
            still.append(f"{_title(kind)}: {number(values.pop())} throughout, in every layer.")
        elif kind.startswith("thresholds"):
            parts += [_several(kind, name, one) for name, one in list(layers.items())[:_SINGLE]]
        else:
            parts.append(_one_each(kind, layers))
    return [*parts, *map(Text, still)]


def _title(kind: str) -> str:
    return kind[0].upper() + kind[1:].replace("_", " ")


def _one_each(kind: str, layers: Mapping[str, Mapping[str, Any]]) -> Part:
    """Draw a line for each layer: its value, or the mean over its channels."""
    found = {}
    for name, one in list(layers.items())[:_LAYERS]:
        own = one["values"][0] != "mean"
        points = [(s + 1, sum(v) / len(v) if own else v[0]) for s, v in one["points"]]
        found[name] = thinned(points)
    ends = "; ".join(
        f"{name} from {number(p[0][1])} to {number(p[-1][1])}"
        for name, p in list(found.items())[:3]
    )
    several = any(len(one["values"]) > 1 for one in layers.values())
    more = f" The first {_LAYERS} of {len(layers)} layers." if len(layers) > _LAYERS else ""
    note = f"{'Means over channels: ' if several else ''}{ends}.{more}"
    spec = charts.lines(found, "optimizer step", kind, "layer")
    return Chart(_title(kind), note, spec, points_table(found, "step", kind))


def _several(kind: str, name: str, one: Mapping[str, Any]) -> Part:
    """Draw the values of one quantizer."""
    found = {
        part: thinned([(step + 1, values[index]) for step, values in one["points"]])
        for index, part in enumerate(one["values"])
    }
    spec = charts.lines(found, "optimizer step", kind, "threshold")
    note = "Inputs above a threshold reach the next level; in units of the input."
    if one["values"][0] == "mean":
        note = "Inputs above their channel's threshold become +1: the thresholds' mean and ends."
    return Chart(f"{_title(kind)}, {name}", note, spec, points_table(found, "step", kind))
