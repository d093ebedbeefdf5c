"""Vega-Lite charts of what runs and studies leave behind, from plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["curves", "forest", "heatmap", "lines", "parallel", "phases"]

Spec = dict[str, Any]
_ORANGE = "#d55e00"
_MARKS = 600  # more points than that are drawn as lines only
# The same for colours and dashes, so that they share one legend.
_LEGEND: Spec = {
    "title": None,
    "symbolType": "stroke",
    "symbolStrokeWidth": 2.5,
    "symbolSize": 300,
}
_CSV = {"type": "csv", "parse": {"x": "number", "y": "number", "v": "number"}}
Series = Mapping[str, Sequence[tuple[float, float]]]
"""Name -> points (x, y) in the order of x."""

_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 2]]


def _axis(name: str, log: bool = False, **more: Any) -> Spec:
    scale = {"scale": {"type": "log"}} if log else {"scale": {"zero": False}}
    return {"field": name, "type": "quantitative", **scale, **more}


def rows_of(series: Series, x: str, y: str, by: str) -> list[dict[str, Any]]:
    """Return series as rows, without what is no number."""
    return [
        {by: name, x: a, y: _short(b)}
        for name, found in series.items()
        for a, b in found
        if math.isfinite(a) and math.isfinite(b)
    ]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def lines(
    series: Series,
    x: str,
    y: str,
    by: str = "series",
    *,
    log_x: bool = False,
    log_y: bool = False,
    zero: bool = False,
    shape: str = "linear",
) -> Spec:
    """Return lines with hover values, told apart by colour and by dashes.

    Args:
        series: what to draw; points that are no numbers are left out.
        x: title of the axis; that of ``y`` is shown under the pointer only.
        by: what the lines are.
        log_x, log_y: for logarithmic axes, on which points <= 0 are left out.
        zero: whether the y axis begins at 0.
        shape: ``linear`` between points, or ``step-after``: the value stays until the next one.
    """
    rows = [
        row
        for row in rows_of(series, "x", "y", "name")
        if not (log_x and row["x"] <= 0) and not (log_y and row["y"] <= 0)
    ]
    names = list(series)
    scale: Spec = {"type": "log"} if log_y else {"zero": zero}
    name: Spec = {"field": "name", "type": "nominal", "title": by, "sort": names}
    legend = _LEGEND if len(names) > 1 else None
    color = {**name, "scale": {"domain": names}, "legend": legend}
    dash = {**name, "scale": {"domain": names, "range": _dashes(len(names))}, "legend": legend}
    tooltip = [
        {"field": "name", "title": by},
        {"field": "x", "title": x, "format": ".6~g"},
        {"field": "y", "title": y, "format": ".4~g"},
    ]
    mark: Spec = {"type": "line", "interpolate": shape, "clip": True}
    counted = not log_x and all(float(row["x"]).is_integer() for row in rows)
    whole: Spec = {"axis": {"tickMinStep": 1}} if counted else {}  # no half epochs
    layer: list[Spec] = [{"mark": mark, "encoding": {"color": color, "strokeDash": dash}}]
    if len(rows) <= _MARKS:
        dot = {"type": "point", "size": 24, "clip": True}
        layer.append({"mark": dot, "encoding": {"color": color, "tooltip": tooltip}})
    return {
        "height": 260 + 16 * max(len(names) - 4, 0),  # a long legend takes its own room
        "data": {"values": rows},
        "encoding": {
            "x": _axis("x", log_x, title=x, **whole),
            "y": {"field": "y", "type": "quantitative", "title": None, "scale": scale},
        },
        "layer": layer,
    }


def _dashes(count: int) -> list[list[int]]:
    """Return dashes; the eighth line, which has the first one's colour, has another one."""
    kinds = len(_DASHES)
    return [_DASHES[(index + index // kinds) % kinds] for index in range(count)]


def heatmap(
    columns: Sequence[float], rows: Sequence[float], values: Sequence[Sequence[float]],
    x: str, y: str, value: str,
) -> Spec:  # fmt: skip
    """Return a picture of counts over time.

    Args:
        columns: places on the x axis, at least two, evenly spread.
        rows: places on the y axis, at least two, evenly spread.
        values: for every column, the value of each row.
        x, y, value: titles.
    """
    width, height = columns[1] - columns[0], rows[1] - rows[0]
    text = "\n".join(
        f"{a:g},{b:.4g},{v:.4g}"
        for a, cells in zip(columns, values, strict=True)
        for b, v in zip(rows, cells, strict=True)
    )
    return {
        "usermeta": {"embedOptions": {"renderer": "canvas"}},  # thousands of cells
        "data": {"values": f"x,y,v\n{text}", "format": _CSV},
        "transform": [
            {"calculate": f"datum.x - {width / 2:g}", "as": "x0"},
            {"calculate": f"datum.x + {width / 2:g}", "as": "x1"},
            {"calculate": f"datum.y - {height / 2:g}", "as": "y0"},
            {"calculate": f"datum.y + {height / 2:g}", "as": "y1"},
        ],
        "mark": {"type": "rect", "strokeWidth": 0},
        "encoding": {
            "x": _axis("x0", title=x, axis={"grid": False}),
            "x2": {"field": "x1"},
            "y": _axis("y0", title=y, axis={"grid": False}),
            "y2": {"field": "y1"},
            "color": {
                "field": "v",
                "type": "quantitative",
                "title": value,
                "scale": {"type": "sqrt"},
                "legend": {"gradientLength": 160, "format": "%"},
            },
            "tooltip": [
                {"field": "x", "type": "quantitative", "title": x},
                {"field": "y", "type": "quantitative", "title": y, "format": ".2f"},
                {"field": "v", "type": "quantitative", "title": value, "format": ".1%"},
            ],
        },
    }


def curves(found: Series, limit: float) -> Spec:
    """Return curves on [-2, 2], the y axis ending at ``limit``."""
    spec = lines(found, "x", "value", "curve")
    spec["encoding"]["y"]["scale"] = {"domain": [-1.3, limit]}
    return {**spec, "layer": spec["layer"][:1]}


def forest(
    rows: Sequence[Mapping[str, Any]], value: str, singles: Sequence[Mapping[str, Any]]
) -> Spec:
    """Return means with intervals, best first, beside the single runs.

    Args:
        rows: ``name``, ``mean``, and ``low`` and ``high`` where there is an interval.
        value: title of the axis.
        singles: ``name`` and ``value`` of every run.
    """
    names = [row["name"] for row in sorted(rows, key=lambda row: -row["mean"])]
    y = {"field": "name", "type": "nominal", "sort": names, "title": None}
    tooltip = [
        {"field": "name", "title": "setting"},
        {"field": "mean", "title": "mean", "format": ".4f"},
    ]
    layer: list[Spec] = [
        {
            "data": {"values": list(singles)},
            "mark": {"type": "point", "filled": False, "size": 30, "opacity": 0.6},
            "encoding": {"x": _axis("value", title=value)},
        }
    ]
    if known := [row for row in rows if "low" in row]:  # of one run there is no interval
        tooltip += [{"field": end, "title": end, "format": ".4f"} for end in ("low", "high")]
        interval = {"x": _axis("low", title=value), "x2": {"field": "high"}}
        mark = {"type": "rule", "strokeWidth": 2}
        layer.append({"data": {"values": known}, "mark": mark, "encoding": interval})
    layer.append(
        {
            "data": {"values": list(rows)},
            "mark": {"type": "point", "shape": "diamond", "size": 110},
            "encoding": {"x": _axis("mean", title=value), "tooltip": tooltip},
        }
    )
    return {"height": 70 + 26 * len(rows), "encoding": {"y": y}, "layer": layer}


def phases(
    cells: Sequence[tuple[int, float, float, str]], curves: Series, x: str, y: str, value: str
) -> Spec:
    """Return a phase diagram: a share at every (x, y), and curves through it.

    Args:
        cells: x, y, a share from 0 to 1, and what the pointer shows beside them.
        curves: name -> points (x, y).
        x, y, value: titles; the axis of ``y`` is logarithmic.
    """
    rows = [{"x": a, "y": b, "v": share, "more": more} for a, b, share, more in cells]
    tooltip = [
        {"field": "x", "title": x},
        {"field": "y", "title": y},
        {"field": "v", "title": value, "format": ".0%"},
        {"field": "more", "title": "interval"},
    ]
    color = {
        "field": "v",
        "type": "quantitative",
        "title": value,
        "scale": {"domain": [0, 1], "scheme": "viridis"},
        "legend": {"gradientLength": 130, "format": "%"},
    }
    layer: list[Spec] = [
        {
            "data": {"values": rows},
            "mark": {"type": "square", "size": 190, "opacity": 1, "stroke": "#8a8f98"},
            "encoding": {"color": color, "tooltip": tooltip},
        }
    ]
    lines = rows_of(curves, "x", "y", "name")
    if lines:
        dash = {"field": "name", "type": "nominal", "title": None, "sort": list(curves)}
        legend = {"symbolStrokeColor": _ORANGE, "symbolSize": 300}
        layer.append(
            {
                "data": {"values": lines},
                "mark": {"type": "line", "strokeWidth": 3, "color": _ORANGE},
                "encoding": {"strokeDash": {**dash, "legend": legend}},
            }
        )
    scale = {"type": "log", "nice": False, "padding": 14}
    return {
        "height": 380,
        "encoding": {
            "x": {"field": "x", "type": "ordinal", "title": x, "axis": {"labelAngle": 0}},
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": scale},
        },
        "layer": layer,
    }


def parallel(rows: Sequence[Mapping[str, Any]], axes: Sequence[str], color: str) -> Spec:
    """Return parallel coordinates: a line for every run across one axis for each quantity.

    Args:
        rows: a run each; numbers lie between their smallest and largest, words in their order.
        axes: the quantities, from left to right.
        color: the one that colours the lines; a number.
    """
    places: list[dict[str, Any]] = []
    for axis in axes:
        place = _placed([row.get(axis) for row in rows])
        places += [
            {"run": run, "axis": axis, "at": at, "value": _word(row.get(axis)), "color": row[color]}
            for run, (row, at) in enumerate(zip(rows, place, strict=True))
            if at is not None and color in row
        ]
    order = list(axes)
    return {
        "height": 300,
        "data": {"values": places},
        "encoding": {
            "x": {
                "field": "axis",
                "type": "nominal",
                "sort": order,
                "title": None,
                "scale": {"type": "point", "padding": 0.4},
                "axis": {"labelAngle": -25 if len(order) > 4 else 0, "grid": True},
            },
            "y": {"field": "at", "type": "quantitative", "axis": None},
            "color": {
                "field": "color",
                "type": "quantitative",
                "title": color,
                "scale": {"zero": False},
                "legend": {"type": "gradient", "gradientLength": 160},
            },
        },
        "layer": [
            {"mark": {"type": "line", "opacity": 0.75}, "encoding": {"detail": {"field": "run"}}},
            {
                "mark": {"type": "point", "size": 40},
                "encoding": {"tooltip": [{"field": name} for name in ("axis", "value", "color")]},
            },
            {
                "transform": [
                    {
                        "aggregate": [{"op": "count", "as": "runs"}],
                        "groupby": ["axis", "value", "at"],
                    },
                    {
                        "window": [{"op": "row_number", "as": "row"}],
                        "groupby": ["axis"],
                        "sort": [{"field": "at"}],
                    },
                    {
                        "joinaggregate": [{"op": "count", "as": "all"}],
                        "groupby": ["axis"],
                    },
                    {"filter": "datum.row == 1 || datum.row == datum.all"},
                ],
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": -9, "fontSize": 11},
                "encoding": {"text": {"field": "value"}, "color": {"value": "#7a8696"}},
            },
        ],
    }


def _placed(values: Sequence[Any]) -> list[float | None]:
    """Return where values lie between 0 and 1."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) and math.isfinite(value) for value in known):
        low, high = min(known, default=0), max(known, default=0)
        span = (high - low) or 1
        return [None if value is None else (value - low) / span for value in values]
    words = sorted({str(value) for value in known})
    step = max(len(words) - 1, 1)
    return [None if value is None else words.index(str(value)) / step for value in values]


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
