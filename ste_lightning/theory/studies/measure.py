"""What a study keeps of one cell: a row per trial."""

from __future__ import annotations

import datetime
import inspect
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

import ste_lightning
from ste_lightning.data import TeacherStudent
from ste_lightning.kernels.jit.cpu_features import cpu_name
from ste_lightning.theory.coupling import linear_drift, predict_coupled_recurrence
from ste_lightning.theory.prediction import predict_recurrence
from ste_lightning.theory.simulate import simulate
from ste_lightning.theory.studies.cells import EXPERIMENTS, NUMBERS, RUN_SETTINGS, rule_of
from ste_lightning.theory.studies.store import Columns

__all__ = ["measure", "origin"]

_TRACE = 400  # points of the Hamming trace that are kept, for figures
_FLOATS = 2**24  # of the inputs that a prediction has in memory at once


def measure(settings: Mapping[str, Any], threads: int = 1) -> tuple[Columns, dict[str, Any]]:
    """Run one cell.

    Args:
        settings: of a :class:`ste_lightning.theory.studies.cells.Cell`.
        threads: of a simulation.

    Returns:
        Columns with a row per trial, and the cell's provenance: ``settings``, as given, and
        ``defaults``, the experiment's other arguments, so that nothing depends on what the
        defaults are some day; ``numbers``, ``seconds``, ``created``, ``machine``, ``versions``.
    """
    arguments = dict(settings)
    experiment = arguments.pop("experiment", "simulate")
    if isinstance(arguments.get("v"), list):
        arguments["v"] = torch.tensor(arguments["v"], dtype=torch.float32)
    started = time.thread_time()  # of a core, whatever else runs beside it
    if experiment in ("simulate", "recurrence"):
        columns = _simulated(arguments, threads)
        if experiment == "recurrence":
            columns |= _predicted(arguments)
    else:
        columns = EXPERIMENTS[experiment](**arguments)
    provenance = {
        "settings": dict(settings),
        "defaults": _defaults(experiment, settings),
        "numbers": NUMBERS,
        "seconds": round(time.thread_time() - started, 3),
        **origin(),
    }
    return columns, provenance


def origin() -> dict[str, Any]:
    """Return when, where and with what a result is made."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": cpu_name(),
        },
        "versions": {
            "ste_lightning": ste_lightning.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "numba")},
        },
    }


def _defaults(experiment: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(EXPERIMENTS[experiment]).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.name not in {*settings, *RUN_SETTINGS} and p.default is not p.empty
    }


def _simulated(settings: Mapping[str, Any], threads: int) -> Columns:
    arguments = {"steps": 2000, "noise": 0.0, **settings}
    steps, noise = arguments["steps"], arguments["noise"]
    rule = rule_of(arguments.pop("rule", "relu"))
    # Traces are kept where there is something to see (under label noise), or if asked for.
    traced = bool(noise) or "every" in arguments
    arguments.setdefault("every", 1 if noise else steps)
    result = simulate(rule=rule, threads=threads, **arguments)
    columns: Columns = {
        "trial": list(range(result.trials)),
        "last": result.last_recovery.tolist(),
        "ergodic": result.ergodic_recovery.tolist(),
        "first_hit": result.first_hit.tolist(),
        "fraction": result.fraction_at_teacher.tolist(),
        "escapes": result.escapes.tolist(),
        "returns": result.returns.tolist(),
        "return_time": result.return_times.tolist(),
        "longest_return": result.longest_return.tolist(),
        "flips": result.flips.tolist(),
        "dead": result.dead.tolist(),
        "distance": ((result.latent >= 0) != (result.teacher > 0)).sum(1).tolist(),
        "final_loss": result.final_loss.tolist(),
        "evaluations": result.evaluations.tolist(),
    }
    if traced:
        columns["hamming"] = result.hamming[:, -_TRACE:].tolist()
    if noise:
        columns["return_histogram"] = result.return_histogram.tolist()
    return columns


def _predicted(settings: Mapping[str, Any]) -> Columns:
    """Return both predictions for the data of a simulation with label noise."""
    defaults = {name: p.default for name, p in inspect.signature(simulate).parameters.items()}
    given = {**defaults, **settings}
    names = ("n", "m", "samples", "inputs", "normalize", "labels", "noise", "v", "seed")
    rule = rule_of(given["rule"])
    columns: Columns = {}
    trials = given["trials"]
    size = max(1, _FLOATS // (given["samples"] * given["m"] * given["n"]))
    for first in range(0, trials, size):
        source = {name: given[name] for name in names} | {"first_trial": first}
        data = TeacherStudent(trials=min(size, trials - first), **source)
        drift = linear_drift(*data.train_data, *data.teacher, rule)
        found = {
            "predicted": predict_coupled_recurrence(drift),
            "decoupled": predict_recurrence(drift.gradient, *data.teacher, rule),
        }
        for name, prediction in found.items():
            for field in ("fraction", "escape_rate", "return_time"):
                column = columns.setdefault(f"{name}_{field}", [])
                column += getattr(prediction, field).tolist()
    return columns
