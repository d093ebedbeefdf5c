"""The work of ``python -m ste_lightning.predict``."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence

import torch

from ste_lightning.deploy.file.load import load
from ste_lightning.deploy.predict.inputs import info_of, open_inputs
from ste_lightning.deploy.predict.predictions import ON_ERROR, Prediction, predictions
from ste_lightning.deploy.predict.samples import Limits
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.progress import progress
from ste_lightning.io.whole_file import written_whole

__all__ = ["KEYS", "predict_files"]

KEYS = ("model", "input", "out", "batch_size", "normalize", "range", "pixels", "on_error",
        "threads")  # fmt: skip


def predict_files(
    model: str,
    input: str,
    out: str = "predictions.csv",
    batch_size: str = "64",
    normalize: str = "true",
    range: str | None = None,
    pixels: str | None = None,
    on_error: str = "skip",
    threads: str | None = None,
) -> None:
    """Run a packed network over files and write one line per sample, whole or not at all.

    Args:
        model, input, out, batch_size, normalize, range, pixels, on_error, threads: as on the
            command line.

    Raises:
        ConfigurationError: for settings and inputs that cannot work, and where no sample can be
            read.
    """
    size = _positive("batch_size", batch_size)
    if threads is not None:
        torch.set_num_threads(_positive("threads", threads, 1024))  # more may not be had
    require(normalize in ("true", "false"), "normalize", normalize, "use true or false")
    if on_error not in ON_ERROR:
        raise unknown("on_error", on_error, ON_ERROR)
    network = load(model)
    info = info_of(network)
    if range is not None:
        known = info.get("preprocessing") or info.get("normalization") or {}
        info["preprocessing"] = {**known, "range": list(_limits("range", range))}
    limits = None if pixels is None else _limits("pixels", pixels)
    samples = open_inputs(input, network, info, normalize=normalize == "true", limits=limits)
    if samples.remark:
        print(f"note: {samples.remark}", file=sys.stderr)
    rows: list[Prediction] = []
    skipped: list[str] = []
    with progress() as bar:
        task = bar.add_task(f"{len(samples)} samples", total=len(samples))
        for found, failed in predictions(network, samples, size):
            for name, reason in failed:
                if on_error == "stop":
                    raise ConfigurationError(f"{name}: {reason}; on_error=skip goes on without it.")
                bar.console.print(f"skipped {name}: {reason}", markup=False, soft_wrap=True)
                skipped.append(name)
            rows += found
            bar.advance(task, len(found) + len(failed))
    require(bool(rows) or not skipped, "input", input, "none of its samples can be read")
    _write(out, rows)
    left = f", {len(skipped)} skipped" if skipped else ""
    print(f"{len(rows)} prediction{'' if len(rows) == 1 else 's'} in {out}{left}")


def _positive(key: str, value: str, most: int = 1 << 20) -> int:
    right = value.isdecimal() and len(value) < 10 and 0 < int(value) <= most
    require(right, key, value, f"use an integer from 1 to {most}")
    return int(value)


def _limits(key: str, value: str) -> Limits:
    low, dots, high = value.partition("..")
    try:
        found = float(low), float(high)
    except ValueError:
        found = (1.0, 0.0)
    require(
        bool(dots) and -math.inf < found[0] < found[1] < math.inf,
        key,
        value,
        "write LOW..HIGH, such as 0..255",
    )
    return found


def _write(path: str, rows: Sequence[Prediction]) -> None:
    named = bool(rows) and rows[0].prediction is not None
    count = rows[0].outputs.numel() if rows else 0
    columns = ["prediction", "confidence"] if named else [f"output_{i}" for i in range(count)]
    with (
        written_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["sample", *columns])
        for row in rows:
            if named:
                writer.writerow([row.sample, row.prediction, f"{row.confidence:.6f}"])
            else:
                writer.writerow([row.sample, *(f"{v:.7g}" for v in row.outputs.tolist())])
