"""The page of one run, from the files that it has left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.convert.summary_table import human, size
from ste_lightning.reports.html import charts
from ste_lightning.reports.html.learned import learned_charts
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
    number,
)
from ste_lightning.reports.html.training import (
    History,
    histograms,
    learning_curves,
    quantizer_charts,
)
from ste_lightning.reports.html.visits import visit_charts

__all__ = ["run_page"]


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
        Section("Packed network", _packed(facts)),
        Section("Recipe", _recipe(settings, results, changed)),
        Section("Learning curves", learning_curves(history)),
        Section("Visits to the teacher", visit_charts(facts)),
        Section("Layers", _layers(facts)),
        Section("What the quantizers did", quantizer_charts(history)),
        Section("Scales and thresholds", learned_charts(facts)),
        Section("Latent weights over time", histograms(facts)),
        Section("Backward rules", _rules(facts)),
        Section("Wrong predictions", _wrong(facts)),
        Section("Where the numbers come from", _came_from(results)),
    ]
    title = f"{settings.get('name', 'run')}, seed {results['seed']}"
    return Page(title, lead, sections, _foot(results))


# of students that look for a teacher's signs: ste_lightning.models.BinaryTwoLayer
_MEANINGS = {
    "recovered": "students with the teacher's signs after the last step",
    "recovery": "share of students with the teacher's signs after the last step",
    "ergodic_recovery": "share of students whose majority over the steps is right",
    "at_teacher": "share of all steps at the teacher, the way there included",
    "fraction_at_teacher": "share of the counted steps at the teacher",
    "escapes": "how often a student left its teacher, mean",
    "return_time": "steps until it was back, mean",
    "hamming": "wrong signs after the last step, mean",
    "dead": "share of students whose gradient is zero away from the teacher",
}


def _foot(results: Mapping[str, Any]) -> str:
    return f"ste_lightning {results.get('versions', {}).get('ste_lightning', '')}"


def _banded(name: str, value: float, band: Sequence[float] | None) -> Fact:
    """Return a metric and whether it lies in the band that the recipe expects."""
    meaning = _MEANINGS.get(name, "")
    if band is None:
        return Fact(name, number(value), meaning)
    low, high = band
    text = number(low) if low == high else f"{number(low)} to {number(high)}"
    inside = low <= value <= high
    note = f"expected {text}" if inside else f"outside the expected {text}"
    note = f"{meaning}; {note}" if meaning else note
    return Fact(name, number(value), note, "good" if inside else "bad")


def _result(
    settings: Mapping[str, Any], results: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[Part]:
    metrics: Mapping[str, float] = results["metrics"]
    expected = settings.get("expected") or {}
    order = [name for name in settings.get("report") or () if name in metrics] or sorted(metrics)
    parts: list[Part] = [_banded(name, metrics[name], expected.get(name)) for name in order]
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


def _packed(facts: Mapping[str, Any]) -> list[Part]:
    """Return size and speed of what was exported; nothing is told that was not measured."""
    exports = facts.get("exports") or {}
    quantized = facts.get("deployed_bytes", 0) < facts.get("float_bytes", 0)
    if not exports:
        if not quantized or "checkpoint" not in facts:
            return []
        command = f"python -m ste_lightning.export ckpt_path={facts['checkpoint']}"
        said = f"Not exported yet. In this folder, {command} measures size and speed for this page."
        return [Text(said)]
    rows = []
    for format, one in exports.items():
        for time in one["milliseconds"] or [{}]:
            fast = time.get("exported", time.get("packed"))
            rows.append(
                [
                    format, one["file"], f"{one['bytes']:,}", str(time.get("batch", "")),
                    f"{time['trained']:.3f}" if time else "", f"{fast:.3f}" if fast else "",
                    f"{time['trained'] / fast:.1f}" if fast else "",
                ]
            )  # fmt: skip
    head = ["format", "file", "bytes", "batch", "trained model, ms", "exported, ms", "faster by"]
    sources = {
        f"Predictions compared on {one['samples']:,} samples; threads: {one['threads']}; "
        f"{one['processor'] or 'this machine'}."
        for one in exports.values()
    }
    return [Table("Measured by the export", head, rows), *map(Text, sorted(sources))]


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


def _came_from(results: Mapping[str, Any]) -> list[Part]:
    """Return versions, commit and hardware."""
    rows = [[name, version] for name, version in (results.get("versions") or {}).items()]
    rows.append(["commit", results.get("git") or "not in a git repository"])
    for name, value in (results.get("hardware") or {}).items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
        rows.append([name, text])
    rows = [row for row in rows if not (isinstance(row[1], float) and math.isnan(row[1]))]
    return [Table("Versions, commit and hardware", ["what", "value"], rows)]
