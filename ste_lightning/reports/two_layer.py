"""What the two-layer recipes report and draw: numbers over trials, recurrence, recovery by N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.figures.convergence import convergence_figure
from ste_lightning.figures.finished import Finished
from ste_lightning.figures.two_layer import recovery_figure, recurrence_figure
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.theory.coupling import linear_drift

__all__ = [
    "convergence",
    "recovery_by_samples",
    "recurrence",
    "recurrence_summary",
    "trials_summary",
]


def _parts(run: Finished) -> tuple[BinaryTwoLayer, TeacherStudent]:
    if isinstance(run.model, BinaryTwoLayer) and isinstance(run.data, TeacherStudent):
        return run.model, run.data
    raise ConfigurationError("this report is for model=two_layer with data=teacher_student.")


def _predicted(run: Finished) -> Tensor:
    """Return the predicted fraction of steps at w*, shape (trials,)."""
    model, data = _parts(run)
    w_star, v_star = data.teacher
    return linear_drift(*data.train_data, w_star, v_star, model.rule).fraction


def trials_summary(run: Finished) -> dict[str, float]:
    """Return ``recovered`` and ``recovered_ergodic``, how many trials ended at w*, and ``trials``.

    Args:
        run: a finished run of the two-layer network.
    """
    result = _parts(run)[0].result()
    return {
        "recovered": float(result["last_recovery"].sum()),
        "recovered_ergodic": float(result["ergodic_recovery"].sum()),
        "trials": float(len(result["last_recovery"])),
    }


def recurrence_summary(run: Finished) -> dict[str, float]:
    """Compare every trial's time at w* with its prediction.

    Returns:
        ``escapes_min`` (fewest escapes of a trial), ``predicted`` (mean predicted fraction of
        steps at w*) and ``prediction_correlation`` (of prediction and observation over trials;
        0 where one of them does not vary).
    """
    result = _parts(run)[0].result()
    observed, predicted = result["fraction_at_teacher"].double().cpu(), _predicted(run).cpu()
    together = torch.corrcoef(torch.stack([observed, predicted]))
    return {
        "escapes_min": float(result["escapes"].min()),
        "predicted": float(predicted.mean()),
        "prediction_correlation": float(torch.nan_to_num(together)[0, 1])
        if len(observed) > 1
        else 0.0,
    }


def recurrence(run: Finished, steps: int = 300) -> Figure:
    """Draw traces, observed against predicted time at w*, and return times.

    Args:
        run: a finished run whose model kept a trace (``model.trace_steps``).
        steps: length of the traces.
    """
    result = _parts(run)[0].result()
    return recurrence_figure(result, _predicted(run), steps, _title(run))


def convergence(run: Finished) -> Figure:
    """Draw the distance to the teacher and the share of trials at it, step by step.

    Args:
        run: a finished run whose model kept a trace (``model.trace_steps``).
    """
    return convergence_figure(_parts(run)[0].result(), _title(run))


def _title(run: Finished) -> str:
    model, data = _parts(run)
    inputs = data.law if data.normalize == "none" else f"{data.law}, {data.normalize}"
    return (
        f"n = {data.n}, m = {data.m}, N = {data.samples}, {inputs} inputs, "
        f"noise {data.noise:g}, rule {model.rule.name}, {data.trials} trials"
    )


def recovery_by_samples(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Draw recovery against N, by both iterates, from a sweep over ``data.samples``.

    Args:
        rows: one mapping per run with ``data.samples``, ``trials``, ``recovered`` and
            ``recovered_ergodic``.
        title: heading of the figure.

    Raises:
        ConfigurationError: if the sweep was not over ``data.samples``.
    """
    for row in rows:
        require(
            "data.samples" in row and "trials" in row,
            "rows",
            sorted(row),
            "sweep over data.samples with the recipe's summary",
        )
    last, averaged = (_counted(rows, key) for key in ("recovered", "recovered_ergodic"))
    return recovery_figure(last, title, averaged)


def _counted(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, int, int]]:
    """Return N, how many trials recovered, and of how many, over all seeds."""
    points: dict[int, tuple[int, int]] = {}
    for row in rows:
        samples = int(row["data.samples"])
        recovered, trials = points.get(samples, (0, 0))
        points[samples] = (recovered + int(row[key]), trials + int(row["trials"]))
    return [(samples, *counts) for samples, counts in sorted(points.items())]
