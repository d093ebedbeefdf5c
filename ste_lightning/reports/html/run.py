"""The page of one run, from the files that it has left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.convert.summary_table import human, size
from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import (
    Chart,
    Fact,
    Gallery,
    Page,
    Part,
    Picture,
    Section,
    Table,
    Text,
)

__all__ = ["banded", "came_from", "number", "run_page", "survival"]

History = Sequence[Mapping[str, float]]

_COLUMNS, _LAYERS, _POINTS = 40, 12, 400  # of a heat map in time; layers drawn; points of a line
_REACH = 4.0  # of the monitor's histograms
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


def number(value: Any) -> str:
    """Return a number with four significant digits, anything else as text."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def run_page(
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    history: History,
    facts: Mapping[str, Any],
    about: str = "",
) -> Page:
    """Return the page.

    Args:
        settings: of config.yaml.
        results: of results.json.
        history: rows of metrics.csv.
        facts: of :func:`ste_lightning.reports.html.network.facts_of_network`; may be empty.
        about: what the recipe says that it is for.
    """
    changed = [one for one in results["overrides"] if not one.lstrip("+").startswith("recipe=")]
    lead = about or "One training run."
    sections = [
        Section("Result", _result(settings, results, facts)),
        Section("Recipe", _recipe(settings, results, changed)),
        Section("Learning curves", _curves(history)),
        Section("Visits to the teacher", _visits(facts)),
        Section("Layers", _layers(facts)),
        Section("What the quantizers did", _quantizers(history)),
        Section("Latent weights over time", _histograms(facts)),
        Section("Backward rules", _rules(facts)),
        Section("Wrong predictions", _wrong(facts)),
        Section("Where the numbers come from", came_from(results)),
    ]
    title = f"{settings.get('name', 'run')}, seed {results['seed']}"
    return Page(title, lead, sections, _foot(results))


def _foot(results: Mapping[str, Any]) -> str:
    return f"ste_lightning {results.get('versions', {}).get('ste_lightning', '')}"


def banded(name: str, value: float, band: Sequence[float] | None) -> Fact:
    """Return a metric and whether it lies in the band that the recipe expects."""
    if band is None:
        return Fact(name, number(value))
    low, high = band
    text = number(low) if low == high else f"{number(low)} to {number(high)}"
    inside = low <= value <= high
    note = f"expected {text}" if inside else f"outside the expected {text}"
    return Fact(name, number(value), note, "good" if inside else "bad")


def _result(
    settings: Mapping[str, Any], results: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[Part]:
    metrics: Mapping[str, float] = results["metrics"]
    expected = settings.get("expected") or {}
    order = [name for name in settings.get("report") or () if name in metrics] or sorted(metrics)
    parts: list[Part] = [banded(name, metrics[name], expected.get(name)) for name in order]
    if "deployed_bytes" in facts:
        packed, plain = facts["deployed_bytes"], facts["float_bytes"]
        parts.append(
            Fact("deployed size", size(packed), f"{plain / packed:.1f} times smaller than float32")
        )
    training, speed = results.get("training_seconds"), facts.get("speed") or {}
    note = "" if training is None else f"{training:.1f} s of it training"
    if "steps_per_second" in speed:
        note += f", {speed['steps_per_second']:.1f} steps/s"
    parts.append(Fact("time", f"{results['seconds']:.1f} s", note))
    if "sample_ms" in speed:
        note = "trained model in PyTorch, one sample, one call"
        parts.append(Fact("prediction", f"{speed['sample_ms']:.2f} ms", note))
    if len(order) < len(metrics):
        rows = [[name, number(metrics[name])] for name in sorted(metrics)]
        parts.append(Table("All metrics", ["metric", "value"], rows, folded=True))
    return parts


def _recipe(
    settings: Mapping[str, Any], results: Mapping[str, Any], changed: Sequence[str]
) -> list[Part]:
    command = " ".join(["python -m ste_lightning.train", *results["overrides"]])
    parts: list[Part] = [Text(f"Command: {command}")]
    if changed:
        differs = [one.lstrip("+~").partition("=")[::2] for one in changed]
        parts.append(Table("What differs from the recipe", ["setting", "value"], differs))
    else:
        parts.append(Text("Nothing differs from the recipe."))
    rows = [[path, value] for group in ("quantizer", "optimizer", "data", "trainer")
            for path, value in _leaves(group, settings.get(group))]  # fmt: skip
    if rows:
        caption = "Settings (config.yaml has all of them)"
        parts.append(Table(caption, ["setting", "value"], rows, folded=True))
    return parts


def _leaves(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [leaf for key, part in value.items() for leaf in _leaves(f"{path}.{key}", part)]
    return [] if value is None else [(path, str(value))]


def _curves(history: History) -> list[Part]:
    """Draw every quantity that is measured per epoch, training beside validation."""
    x, title = ("epoch", "epoch")
    names: dict[str, dict[str, list[tuple[float, float]]]] = {}
    columns = list(dict.fromkeys(key for row in history for key in row))
    for column in columns:
        stage, slash, quantity = column.partition("/")
        if not slash and column not in ("epoch", "step"):
            stage, quantity = "value", column
        if (
            column in ("epoch", "step")
            or stage in ("test", "quantization", "final")
            or (column.startswith("test_"))
        ):
            continue
        points = [(row.get(x, 0.0) + 1, row[column]) for row in history if column in row]
        if len({place for place, _ in points}) < 2:  # one epoch: by steps
            points = [(row.get("step", 0.0) + 1, row[column]) for row in history if column in row]
            title = "optimizer step"
        if len(points) > 1:
            names.setdefault(quantity, {})[_STAGES.get(stage, stage)] = _thinned(points)
    return [
        Chart(
            quantity,
            _told(found),
            charts.lines(found, title, quantity, "part"),
            _table(found, title, quantity),
        )
        for quantity, found in names.items()
    ]


_STAGES = {"train": "training", "val": "validation"}


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = -(-len(points) // _POINTS)
    return [*points[::stride], *([points[-1]] if (len(points) - 1) % stride else [])]


def _told(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    ends = [
        f"{name} from {number(p[0][1])} to {number(p[-1][1])}" for name, p in found.items() if p
    ]
    return f"{'; '.join(ends)}."


def _table(
    found: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, most: int = 30
) -> Table:
    places = sorted({place for points in found.values() for place, _ in points})
    places = places[:: -(-len(places) // most)]
    values = {name: dict(points) for name, points in found.items()}
    rows = [
        [number(place), *(number(values[n][place]) if place in values[n] else "" for n in found)]
        for place in places
    ]
    return Table(y, [x, *found], rows)


def _layers(facts: Mapping[str, Any]) -> list[Part]:
    layers = facts.get("layers") or []
    if not layers:
        return []
    rows = [
        [
            layer["name"] or "(model)", layer["type"], layer["weights"], layer["inputs"],
            f"{layer['parameters']:,}", size(layer["bytes"]),
            "" if layer["macs"] is None else f"{layer['macs']:,}", layer["why"],
        ]
        for layer in layers
    ]  # fmt: skip
    head = ["layer", "type", "weights", "inputs", "parameters", "bytes packed",
            "MACs per sample", "why"]  # fmt: skip
    parts: list[Part] = [Table("What became what, and why", head, rows)]
    if facts.get("macs"):
        kinds = ", ".join(f"{human(count)} {kind}" for kind, count in facts["macs"].items())
        parts.append(Text(f"Multiply-accumulates per sample: {kinds}."))
    parts += [Text(note) for note in facts.get("notes") or ()]
    return parts


def _quantizers(history: History) -> list[Part]:
    parts: list[Part] = []
    flat: list[str] = []
    columns = list(dict.fromkeys(key for row in history for key in row))
    for measure, (title, axis, note) in _MEASURES.items():
        prefix = f"quantization/{measure}/"
        named = [column for column in columns if column.startswith(prefix)]
        if not named:
            continue
        found = {
            column.removeprefix(prefix): _thinned(
                [(row["step"] + 1, row[column]) for row in history if column in row]
            )
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
        said = f"{axis[0].upper()}{axis[1:]}. {note}{more}"
        parts.append(Chart(title, said, spec, _table(found, "step", axis)))
    return [*parts, *map(Text, flat)]


def _histograms(facts: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    for name, points in list((facts.get("histograms") or {}).items())[:_LAYERS]:
        if len(points) < 2:
            continue
        points = points[:: -(-len(points) // _COLUMNS)]
        bins = len(points[0][1])
        middles = [_REACH * (2 * (index + 0.5) / bins - 1) for index in range(bins)]
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


def _rules(facts: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    for rule in facts.get("rules") or ():
        values = ", ".join(f"{key} = {value:g}" for key, value in rule["parameters"].items())
        curves = rule["curves"]
        peak = max((y for points in curves.values() for _, y in points), default=1)
        users = ", ".join(rule["layers"][:6]) + (", ..." if len(rule["layers"]) > 6 else "")
        title = f"{rule['rule']}{f' ({values})' if values else ''} for {rule['operand']}s"
        note = f"{rule['equation']}. Used by {users}."
        parts.append(Chart(title, note, charts.curves(curves, min(peak * 1.1, 2.3))))
    return parts


def _wrong(facts: Mapping[str, Any]) -> list[Part]:
    if not facts.get("tested"):
        return []
    mistakes, tested = facts["mistakes"], facts["tested"]
    parts: list[Part] = [Text(f"{mistakes} of the first {tested:,} test samples are told wrongly.")]
    if facts.get("confused"):
        rows = [[a, b, str(count)] for a, b, count in facts["confused"]]
        parts.append(Table("Most often confused", ["is", "said to be", "how often"], rows))
    pictures = facts.get("pictures") or []
    if pictures:
        shown = [Picture(p["png"], p["text"], 112) for p in pictures]
        parts.append(Gallery(shown))
    return parts


def _visits(facts: Mapping[str, Any]) -> list[Part]:
    """Tell of students that reach their teacher, leave it and return."""
    parts: list[Part] = []
    traces = facts.get("wrong_signs") or []
    if traces and len(traces[0]) > 1:
        named = {f"trial {i + 1}": list(enumerate(t, 1)) for i, t in enumerate(traces)}
        spec = charts.lines(named, "step", "wrong signs", "trial", zero=True, shape="step-after")
        note = "0 wrong signs: the student is at its teacher."
        parts.append(Chart("Wrong signs, the first trials", note, spec, wide=True))
    fractions = facts.get("fractions") or []
    if fractions:
        mean = sum(fractions) / len(fractions)
        parts.append(
            Text(f"Mean share of the steps at the teacher: {mean:.3f} ({len(fractions)} trials).")
        )
    returns = facts.get("return_times") or []
    if sum(returns):
        parts.append(_returns(returns))
    return parts


def survival(histogram: Sequence[int]) -> list[tuple[float, float]]:
    """Return the share of the ways back that take longer than k steps, for k = 0, 1, ...

    Args:
        histogram: ways back of 1, 2, ... steps.
    """
    total = left = sum(histogram)
    points = []
    for k, count in enumerate(histogram):
        points.append((float(k), left / total))
        left -= count
    return points


def _returns(histogram: Sequence[int]) -> Chart:
    points = survival(histogram)
    half = next((k for k, share in points if share <= 0.5), points[-1][0] + 1)
    spec = charts.lines(
        {"returns": points}, "k, steps", "longer than k", log_y=True, shape="step-after"
    )
    note = (
        f"Share of the ways back that take longer than k steps. {sum(histogram):,} ways back; "
        f"half of them take at most {half:g} steps."
    )
    numbers = _table({"longer than k": points}, "k", "share")
    return Chart("How long it takes to come back", note, spec, numbers)


def came_from(results: Mapping[str, Any]) -> list[Part]:
    """Return versions, commit and hardware."""
    rows = [[name, version] for name, version in (results.get("versions") or {}).items()]
    rows.append(["commit", results.get("git") or "not in a git repository"])
    for name, value in (results.get("hardware") or {}).items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
        rows.append([name, text])
    rows = [row for row in rows if not (isinstance(row[1], float) and math.isnan(row[1]))]
    return [Table("Versions, commit and hardware", ["what", "value"], rows)]
