"""The work of ``python -m ste_lightning.predict``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.file.load import load
from ste_lightning.deploy.sample_files import open_samples
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.whole_file import written_whole

__all__ = ["KEYS", "predict_files"]

KEYS = ("model", "input", "out", "batch_size", "normalize", "threads")


def predict_files(
    model: str,
    input: str,
    out: str = "predictions.csv",
    batch_size: str = "64",
    normalize: str = "true",
    threads: str | None = None,
) -> None:
    """Run a packed network over files and write one line per sample, whole or not at all.

    Args:
        model, input, out, batch_size, normalize, threads: as on the command line.

    Raises:
        ConfigurationError: for settings and inputs that cannot work.
    """
    size = _positive("batch_size", batch_size)
    if threads is not None:
        torch.set_num_threads(_positive("threads", threads))
    require(normalize in ("true", "false"), "normalize", normalize, "use true or false")
    network = load(model)
    info = network.info
    samples = open_samples(input, _shape(info))
    scaling = _scaling(info) if normalize == "true" else None
    names = info.get("classes")
    rows: list[list[str]] = []
    for part, batch in samples.batches(size):
        x = batch if scaling is None else (batch - scaling[0]) / scaling[1]
        rows += _lines(part, _outputs(network, x), names)
        _progress(len(rows), len(samples))
    _write(out, rows, names)
    print(f"{len(rows)} prediction{'' if len(rows) == 1 else 's'} in {out}")


def _positive(key: str, value: str) -> int:
    require(value.isdecimal() and 0 < int(value) < 1 << 20, key, value, "use a positive integer")
    return int(value)


def _shape(info: dict[str, Any]) -> list[int] | None:
    shape = info.get("input_shape")
    if isinstance(shape, list) and all(type(n) is int and 0 < n < 1 << 16 for n in shape):
        return shape
    return None


def _scaling(info: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    given = info.get("normalization")
    if not isinstance(given, dict):
        return None
    parts = []
    for key in ("mean", "std"):
        values = given.get(key)
        sound = isinstance(values, list) and all(isinstance(v, (int, float)) for v in values)
        require(
            sound and bool(values), "normalization", given, "the file's normalization is damaged"
        )
        parts.append(torch.tensor(values, dtype=torch.float32))
    require(bool((parts[1] > 0).all()), "normalization", given, "a deviation must be positive")
    if max(map(len, parts)) == 1:
        return parts[0], parts[1]
    return parts[0].view(-1, 1, 1), parts[1].view(-1, 1, 1)


def _outputs(network: torch.nn.Module, x: Tensor) -> Tensor:
    try:
        y = network(x)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"input of shape {tuple(x.shape)} does not fit the network: {error}"
        ) from error
    require(isinstance(y, Tensor), "model", type(y).__name__, "its output must be one tensor")
    found: Tensor = y.flatten(1)
    return found


def _lines(names: Sequence[str], outputs: Tensor, classes: Any) -> list[list[str]]:
    labels = _labels(classes, outputs.shape[1])
    if labels is None:
        return [
            [name, *(f"{v:.7g}" for v in row)]
            for name, row in zip(names, outputs.tolist(), strict=True)
        ]
    confidence, best = outputs.float().softmax(1).max(1)
    return [
        [name, labels[index], f"{p:.6f}"]
        for name, index, p in zip(names, best.tolist(), confidence.tolist(), strict=True)
    ]


def _labels(classes: Any, count: int) -> list[str] | None:
    if isinstance(classes, list) and len(classes) == count:
        return [str(name) for name in classes]
    return None


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        filled = 30 * done // max(total, 1)
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total}", end=end, file=sys.stderr)


def _write(path: str, rows: Sequence[Sequence[str]], classes: Any) -> None:
    named = bool(rows) and isinstance(classes, list) and len(rows[0]) == 3
    outputs = [f"output_{i}" for i in range(len(rows[0]) - 1)] if rows else []
    header = ["sample", "prediction", "confidence"] if named else ["sample", *outputs]
    with (
        written_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
