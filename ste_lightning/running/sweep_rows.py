"""What the runs of a sweep left in its folder: a row for each that has finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError
from ste_lightning.running import files
from ste_lightning.running.reading import results_of, settings_of
from ste_lightning.running.resuming import without_resume

__all__ = ["SEED", "Row", "Sweep", "collect", "setting_of"]

Row = dict[str, Any]

SEED = "seed"


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep.

    Attributes:
        rows: per finished run the settings that vary, then its metrics and ``seconds`` of
            training without warm-up.
        varied: names of the settings that differ between runs.
        failed: folder -> what stopped the run; empty words for one that was killed or has not
            begun.
        report: the metrics that the runs' own recipes report, in their order.
    """

    rows: list[Row]
    varied: list[str]
    failed: dict[Path, str]
    report: list[str]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def collect(folder: Path) -> Sweep:
    """Read the results of every run below ``folder``."""
    runs = sorted(
        (path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
    )
    results: dict[Path, dict[str, Any]] = {}
    failed: dict[Path, str] = {}
    for path in runs:
        try:
            if (path / files.RESULTS).is_file():
                results[path] = results_of(path)
            else:
                failed[path] = _error(path)
        except ConfigurationError as error:  # it costs this run only
            failed[path] = str(error)
    settings = [
        dict(one.lstrip("+").split("=", 1) for one in without_resume(r["overrides"]) if "=" in one)
        for r in results.values()
    ]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    varied = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    rows = [
        {key: _value(setting[key]) for key in varied if key in setting}
        | result["metrics"]
        | {"seconds": result.get("training_seconds") or result["seconds"]}
        for setting, result in zip(settings, results.values(), strict=True)
    ]
    return Sweep(rows, varied, failed, _reported(results))


def _reported(runs: Iterable[Path]) -> list[str]:
    known = (settings_of(run) for run in runs if (run / files.CONFIG).is_file())
    return list(dict.fromkeys(metric for one in known for metric in one.get("report") or ()))


def _error(folder: Path) -> str:
    file = folder / files.REFUSAL
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def setting_of(row: Mapping[str, Any], varied: Sequence[str]) -> str:
    """Return what was swept: ``sign``, or ``quantizer=sign, data.shift=1`` for several keys."""
    keys = [key for key in varied if key != SEED and key in row]
    if len(keys) == 1:
        return str(row[keys[0]])
    return ", ".join(f"{key}={row[key]}" for key in keys)
