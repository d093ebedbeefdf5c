"""Rows of a results table: numbers of one finished run, its size and its speed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.deploy.report import interleaved_latency
from ste_lightning.errors import ConfigurationError
from ste_lightning.running import files
from ste_lightning.running.reading import results_of, settings_of
from ste_lightning.running.restoring import evaluation_samples, restored

__all__ = ["Row", "read_rows", "row_of"]

Row = dict[str, Any]


def read_rows(table: Path) -> list[Row]:
    """Return the rows of a table; none where it does not exist yet.

    Raises:
        ConfigurationError: for a file that is not such a table.
    """
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows: list[Row] = [dict(row) for row in csv.DictReader(file)]
    try:
        for row in rows:
            row["seed"], row["value"] = int(row["seed"]), float(row["value"])
            row["setting"]  # every row has one
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{table} cannot be used: it is no table of results.") from error
    return rows


def row_of(folder: Path, setting: str, metric: str, command: str) -> Row:
    """Return what a finished run says.

    Args:
        folder: of the run.
        setting: its name in the plan.
        metric: which of its metrics is ``value``.
        command: that made it.

    Raises:
        ConfigurationError: if the run does not measure the metric.
    """
    results = results_of(folder)
    if metric not in results["metrics"]:
        known = ", ".join(sorted(results["metrics"]))
        raise ConfigurationError(f"metric={metric!r} cannot be used: the run measures {known}.")
    config = settings_of(folder)
    network = (config["model"].get("network") or config["model"])["_target_"]
    quantizer = config.get("quantizer") or {}
    return {
        "setting": setting,
        "network": network.rpartition(".")[2],
        "data": config["data"]["_target_"].rpartition(".")[2],
        "weight": _words(quantizer.get("weight")),
        "input": _words(quantizer.get("input")),
        "seed": results["seed"],
        "epochs": config["trainer"].get("max_epochs"),
        "metric": metric,
        "value": round(results["metrics"][metric], 6),
        **_deployed(folder),
        "training_seconds": results["training_seconds"],
        "processor": results["hardware"]["processor"],
        "commit": results["git"],
        "command": command,
    }


def _words(specification: Any) -> str:
    """Return a quantizer's specification in a cell: ``lsq bits=4 signed=False``."""
    if specification is None:
        return "float"
    if not isinstance(specification, Mapping):
        return str(specification)
    rest = [f"{key}={value}" for key, value in specification.items() if key != "map"]
    return " ".join([str(specification.get("map", "")), *rest]).strip()


def _deployed(folder: Path) -> Row:
    """Return bytes and milliseconds for one sample, packed; a float network stays as it is."""
    model, data = restored(str(files.trained(folder)), None)
    network = model.get_submodule("network")
    sample = evaluation_samples(data, 1)
    layers = [layer for _, layer in named_quantized_layers(network)]
    if all(one.weight_quantizer is None and one.input_quantizer is None for one in layers):
        values = [*network.parameters(), *network.buffers()]
        size = sum(value.numel() * value.element_size() for value in values)
        return {"bytes": size, "ms": round(_milliseconds(network, sample), 4)}
    packed = deploy.pack(network, sample)
    with TemporaryDirectory() as place:
        file = Path(place) / "packed.ste"
        deploy.save(packed, file)
        size = file.stat().st_size
    return {"bytes": size, "ms": round(_milliseconds(packed, sample), 4)}


def _milliseconds(network: nn.Module, sample: torch.Tensor) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            (seconds,) = interleaved_latency([lambda: network(sample)], seconds=0.1)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * seconds
