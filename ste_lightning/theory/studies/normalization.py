"""Which inputs fail, which normalization repairs them, and what is wrong with the inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ste_lightning.data.inputs import input_law
from ste_lightning.theory.statistics import wilson
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import varied

__all__ = ["Diagnosis", "diagnosis", "normalization_of", "normalization_rows", "place_of"]

Row = dict[str, Any]

_ACROSS = ("normalize", "labels")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What raw inputs have that standard Gaussian ones lack.

    Attributes:
        mean: root mean square over features of mean / standard deviation; 0 if centred.
        features: largest over smallest standard deviation of a feature; 1 if all are equal.
        rows: coefficient of variation of the centred rows' lengths; 1/sqrt(2n) for normal ones.
        correlation: root mean square correlation of different features; 0 if uncorrelated.
    """

    mean: float
    features: float
    rows: float
    correlation: float


def diagnosis(inputs: Any, n: int, rows: int = 4000, seed: int = 0) -> Diagnosis:
    """Measure what is wrong with an input distribution.

    Args:
        inputs: its specification, as of :func:`ste_lightning.theory.simulate`.
        n: features.
        rows: how many are drawn; of real data at most all.
        seed: of the draw.
    """
    law, rng = input_law(inputs), np.random.default_rng(seed)
    keywords = getattr(law, "keywords", {})
    drawn = law(rng, (min(rows, len(keywords.get("table", range(rows)))), 1, n))[:, 0]
    mean, std = drawn.mean(0, dtype=np.float64), drawn.std(0, dtype=np.float64)
    kept = std > 0
    centred = (drawn - mean)[:, kept]
    length = np.linalg.norm(centred, axis=1)
    together = np.corrcoef(centred.T)
    different = ~np.eye(len(together), dtype=bool)
    return Diagnosis(
        float(np.sqrt(np.mean(np.square(mean[kept] / std[kept])))),
        float(std[kept].max() / std[kept].min()),
        float(length.std() / length.mean()),
        float(np.sqrt(np.mean(np.square(together[different])))),
    )


def normalization_of(result: Result) -> str:
    """Return what a cell does to the inputs, for the head of a column."""
    name = str(result.settings.get("normalize", "none"))
    return f"{name}, raw labels" if result.settings.get("labels") == "raw" else name


def place_of(result: Result, keys: Sequence[str]) -> str:
    """Return a cell's inputs, and what else of ``keys`` varies, for the head of a row."""
    inputs = label(result.settings.get("inputs", "gaussian"))
    others = [f"{key} = {label(result.settings[key])}" for key in keys if key != "inputs"]
    return ", ".join([inputs, *others])


def normalization_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per input distribution (and rule, N, m): diagnosis and recovery.

    Recovery is the last iterate's with Wilson's interval, "/" and the averaged iterate's, a
    column per normalization. ``dead`` is the share of trials without normalization that ended
    with a coarse gradient of exactly zero at positive loss.
    """
    keys = [key for key in varied(results) if key not in _ACROSS]
    rows: dict[tuple[str, ...], Row] = {}
    for r in results:
        place = tuple(label(r.settings.get(key, "")) for key in keys)
        if place not in rows:
            found = diagnosis(r.settings.get("inputs", "gaussian"), r.settings["n"])
            numbers = {
                "mean": f"{found.mean:.2f}",
                "scale, features": f"{found.features:.3g}",
                "scale, rows": f"{found.rows:.2f}",
                "correlation": f"{found.correlation:.2f}",
            }
            rows[place] = dict(zip(keys, place, strict=True)) | numbers
        last, averaged = (torch.tensor(r.columns[name]) for name in ("last", "ergodic"))
        low, high = wilson(last.sum(), len(last))
        rows[place][normalization_of(r)] = (
            f"{last.double().mean():.2f} [{low:.2f}, {high:.2f}] / {averaged.double().mean():.2f}"
        )
        if normalization_of(r) == "none":
            rows[place]["dead"] = f"{torch.tensor(r.columns['dead']).double().mean():.2f}"
    return list(rows.values())
