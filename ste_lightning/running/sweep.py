"""Combine the runs of a multirun into one table, one CSV file and figures."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ste_lightning.io.whole_file import write_csv
from ste_lightning.running import files, report

__all__ = ["Combine", "average", "collect"]

Row = dict[str, Any]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def collect(folder: Path) -> tuple[list[Row], list[str], list[Path]]:
    """Read the results of every run below ``folder``.

    Returns:
        One row per finished run: the settings that vary between runs, then its metrics and
        seconds; the names of those settings; and the folders of the runs that did not finish.
    """
    runs = sorted(
        (path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
    )
    done = [path for path in runs if (path / files.RESULTS).is_file()]
    results = [json.loads((path / files.RESULTS).read_text(encoding="utf-8")) for path in done]
    settings = [dict(item.lstrip("+").split("=", 1) for item in r["overrides"]) for r in results]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    varied = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    rows = [
        {key: _value(setting[key]) for key in varied if key in setting}
        | result["metrics"]
        | {"seconds": result["seconds"]}
        for setting, result in zip(settings, results, strict=True)
    ]
    return rows, varied, [path for path in runs if path not in done]


def average(rows: Sequence[Row], varied: Sequence[str], metrics: Sequence[str]) -> list[Row]:
    """Average over seeds: one row per setting; ``mean ± standard deviation`` of several runs.

    Args:
        rows: rows of :func:`collect`.
        varied: the settings that differ between runs.
        metrics: which metrics to show.
    """
    settings = [key for key in varied if key != "seed"]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in settings), []).append(row)
    table: list[Row] = []
    for setting, members in groups.items():
        line: Row = dict(zip(settings, setting, strict=True))
        if len(members) > 1:
            line["runs"] = len(members)
        for metric in metrics:
            values = [float(row[metric]) for row in members if metric in row]
            if values:
                line[metric] = statistics.fmean(values)
            if len(values) > 1:
                line[metric] = f"{line[metric]:.4f} ± {statistics.stdev(values):.3f}"
        line["seconds"] = statistics.fmean(float(row["seconds"]) for row in members)
        table.append(line)
    return table


class Combine(Callback):
    """Hydra callback: after the last run, combine the runs' files.

    Writes ``sweep.csv`` (one row per run) and the figures of the node ``sweep.figures`` into the
    sweep's folder, and prints a table averaged over seeds. It reads files only, so it also works
    with launchers that run jobs in other processes.
    """

    failed: ClassVar[list[Path]] = []

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Combine what the runs left behind."""
        folder = Path(config.hydra.sweep.dir)
        if not folder.is_dir():
            return
        rows, varied, Combine.failed = collect(folder)
        if rows:
            self._combine(folder, rows, varied, config)
        for path in Combine.failed:
            print(f"no results in {path}", file=sys.stderr)

    def _combine(
        self, folder: Path, rows: list[Row], varied: list[str], config: DictConfig
    ) -> None:
        write_csv(folder / "sweep.csv", rows)
        shown = list(config.report) or [
            key for key in rows[0] if key not in (*varied, "seconds", "seed")
        ]
        sweep: Mapping[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
            config.sweep, resolve=True
        )
        for name, node in sweep.get("figures", {}).items():
            from ste_lightning.running.build import build_function

            figure = build_function(f"sweep.figures.{name}", node)(rows)
            figure.savefig(folder / f"{name}.png", dpi=150)
        report.print_rows(
            str(config.name),
            average(rows, varied, shown),
            notes=[f"{len(rows)} runs; sweep.csv and figures in {folder}"],
        )
