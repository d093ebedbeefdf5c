"""Claims of arXiv 2211.03741 (ASkewSGD) and arXiv 2110.13220 (ProxConnect)."""

from __future__ import annotations

from collections.abc import Sequence

from ste_lightning.theory.claims.claim import Claim, Measured, mean, share
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.studies.runner import Result

__all__ = ["CLAIMS"]

_ASKEW, _PROX = "2211.03741", "2110.13220"


def _cells(results: Sequence[Result], method: str, noise: float) -> list[Result]:
    found = [r for r in results if (r.settings["method"], r.settings["noise"]) == (method, noise)]
    return sorted(found, key=lambda r: int(r.settings["samples"]))


def _flips(results: Sequence[Result], method: str) -> Measured | None:
    """Return the flips with label noise, over the numbers of samples."""
    noisy = max((r.settings["noise"] for r in results), default=0.0)
    flips = [x for r in _cells(results, method, noisy) for x in r.columns["flips"]]
    return mean(f"flips of a weight in 1000 steps, label noise {noisy:g}", flips)


def _gain(results: Sequence[Result], noise: float, place: int) -> Measured | None:
    """Return recovery by ASkewSGD less the straight-through estimator's, on the same data."""
    pair = [_cells(results, method, noise) for method in ("askew", "straight_through")]
    if not all(pair):
        return None
    new, old = (cells[place] for cells in pair)
    differences = [
        float(a) - float(b) for a, b in zip(new.columns["last"], old.columns["last"], strict=True)
    ]
    words = f"recovery less the straight-through estimator's, N = {new.settings['samples']}"
    return mean(f"{words}, label noise {noise:g}", differences)


def _rest(results: Sequence[Result], method: str) -> Measured | None:
    """Return the share of resting runs that rest after rounding, too, without label noise."""
    rounded = [
        after
        for r in _cells(results, method, 0.0)
        for before, after in zip(r.columns["rests"], r.columns["rounded_rests"], strict=True)
        if before
    ]
    return share("resting runs whose signs are a fixed point of the straight-through one", rounded)


CLAIMS = (
    Claim(
        "With ASkewSGD flips vanish once weights are in their bands",
        _ASKEW,
        "a flip takes one step longer than 1 − ε: none, whatever the noise",
        "bands",
        lambda r: _flips(r, "askew"),
        (-0.01, 0.01),
        within="0.01 of 1000 steps",
    ),
    Claim(
        "With the straight-through estimator they do not",
        OURS,
        "label noise is a constant drift: adverse weights rotate around 0",
        "bands",
        lambda r: _flips(r, "straight_through"),
        (1.0, float("inf")),
    ),
    Claim(
        "ASkewSGD is as good as the straight-through estimator, or better: few clean samples",
        _ASKEW,
        "at the smallest N the float problem has solutions that are not binary",
        "bands",
        lambda r: _gain(r, 0.0, 0),
        (-0.05, 1.0),
        note="the paper compares on image benchmarks",
    ),
    Claim(
        "ASkewSGD is as good as the straight-through estimator, or better: noisy labels",
        _ASKEW,
        "at the largest N weights that rest keep the average's signs",
        "bands",
        lambda r: _gain(r, 0.5, -1),
        (-0.05, 1.0),
        note="of the last iterate; a vote of its signs is another matter",
    ),
    Claim(
        "ProxConnect's fixed points are the straight-through estimator's, as the slope grows",
        _PROX,
        "both ask for a gradient of 0 at the quantized weights: share 1",
        "bands",
        lambda r: _rest(r, "proxconnect"),
        (0.95, 1.0),
        within="5 %",
    ),
    Claim(
        "They are so with a fixed slope, too",
        OURS,
        "stronger than the paper: weights may rest between the levels",
        "bands",
        lambda r: _rest(r, "proxconnect_fixed"),
        (0.95, 1.0),
        within="5 %",
    ),
)
