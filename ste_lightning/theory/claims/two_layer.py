"""Claims about the two-layer network with a planted binary teacher, of arXiv 2505.18113 v2."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ste_lightning.theory.claims.claim import Claim, Measured, at, mean, measured, share
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import power_law
from ste_lightning.theory.statistics import correlation
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.recurrence import quantities
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import thresholds

__all__ = ["CLAIMS"]

_V2 = "2505.18113v2"


def _exponent(results: Sequence[Result], which: str) -> Measured | None:
    """Return the exponent of N50 between the two largest n."""
    found = sorted(thresholds(results), key=lambda t: t.n)[-2:]
    values = [getattr(t, which) for t in found]
    if len(found) < 2 or any(len(value.replicates) == 0 for value in values):
        return None
    words = f"exponent of N50 from n = {found[0].n} to {found[1].n}"
    return measured(words, power_law([t.n for t in found], values))


def _ratio(results: Sequence[Result]) -> Measured | None:
    largest = max(thresholds(results), key=lambda t: t.n)
    return measured(f"N50 last / averaged at n = {largest.n}", largest.ratio)


def _recovered(results: Sequence[Result], **settings: object) -> Measured | None:
    """Return recovery where teacher and student see the same inputs."""
    cells = [r for r in at(results, **settings) if r.settings.get("labels") != "raw"]
    return share("recovery", [bool(x) for r in cells for x in r.columns["last"]])


def _recur(results: Sequence[Result]) -> Measured | None:
    """Return the share of noisy data sets with many samples whose runs leave and return."""
    most = max(r.settings["samples"] for r in results)
    counts = [
        min(away, back) >= 10
        for r in at(results, samples=most, lr=1.0)
        for away, back in zip(r.columns["escapes"], r.columns["returns"], strict=True)
    ]
    return share(f"data sets at N = {most} that leave and return ten times or more", counts)


def _recur_always(results: Sequence[Result]) -> Measured | None:
    """Return the share of the noisiest, smallest data sets that ever return."""
    least = min(r.settings["samples"] for r in results)
    noise = max(r.settings["noise"] for r in results)
    returned = [
        returns > 0
        for r in at(results, samples=least, noise=noise, lr=1.0)
        for returns in r.columns["returns"]
    ]
    return share(f"data sets that return at N = {least}, noise {noise:g}", returned)


def _step_size(results: Sequence[Result]) -> Measured | None:
    """Return the largest mean difference of time at w* between step sizes on the same data."""
    cells = at(results, samples=2048, noise=0.5)
    base = next((r for r in cells if r.settings["lr"] == 1.0), None)
    if base is None or len(cells) < 2:
        return None
    seen = torch.tensor(base.columns["fraction"], dtype=torch.float64)
    found = [
        mean(
            f"time at w*, step size {r.settings['lr']:g} less step size 1",
            (torch.tensor(r.columns["fraction"], dtype=torch.float64) - seen).tolist(),
        )
        for r in cells
        if r is not base
    ]
    return max((m for m in found if m is not None), key=lambda m: max(abs(m.low), abs(m.high)))


def _predicted(results: Sequence[Result]) -> Measured | None:
    most = max(r.settings["samples"] for r in results)
    cells = at(results, samples=most, lr=1.0)
    seen, predicted = (
        torch.cat([quantities(r, source)[0] for r in cells]) for source in ("", "predicted")
    )
    words = f"correlation of time at w*, seen and predicted, over data sets at N = {most}"
    return measured(words, correlation(seen, predicted))


def _left(results: Sequence[Result], momentum: float) -> Measured | None:
    most = max(r.settings["samples"] for r in results)
    cells = at(results, samples=most, optimizer="sgd", momentum=momentum)
    left = [
        away > 0
        for r in cells
        for hit, away in zip(r.columns["first_hit"], r.columns["escapes"], strict=True)
        if hit >= 0
    ]
    words = "plain descent" if momentum == 0 else f"momentum {momentum}"
    return share(f"runs at N = {most} that leave w* again, {words}", left)


def _deviation(results: Sequence[Result]) -> Measured | None:
    """Return the mean squared deviation from the closed forms, in standard errors squared."""
    squares = [
        ((observed - expected) / error) ** 2
        for r in results
        for observed, expected, error in zip(
            *(r.columns[name] for name in ("observed", "expected", "error")), strict=True
        )
        if error > 0
    ]
    return mean(f"mean squared deviation of {len(squares)} quantities, in standard errors", squares)


def _worst_whitened(results: Sequence[Result]) -> Measured | None:
    cells = at(results, normalize="whitening")
    worst = min(cells, key=lambda r: sum(r.columns["last"]), default=None)
    if worst is None:
        return None
    words = f"recovery of the worst cell, whitened: {label(worst.settings['inputs'])}"
    return share(f"{words}, {worst.settings['rule']}", worst.columns["last"])


CLAIMS = (
    Claim(
        "The averaged iterate recovers the teacher from O(n²) samples",
        _V2,
        "upper bound: the exponent is at most 2",
        "gap",
        lambda r: _exponent(r, "n50_ergodic"),
        (0.0, 2.0),
    ),
    Claim(
        "The last iterate recovers the teacher from O(n⁴) samples",
        _V2,
        "upper bound: the exponent is at most 4",
        "gap",
        lambda r: _exponent(r, "n50_last"),
        (0.0, 4.0),
    ),
    Claim(
        "The last iterate needs more samples than the averaged one",
        _V2,
        "the two bounds differ: the ratio exceeds 1",
        "gap",
        _ratio,
        (1.0, float("inf")),
    ),
    Claim(
        "Under label noise iterates leave the teacher and return, again and again",
        _V2,
        "a constant drift at w* makes each adverse weight rotate around 0",
        "recurrence",
        _recur,
        (0.95, 1.0),
    ),
    Claim(
        "They do so whatever the number of samples",
        _V2,
        "our limit: N ≫ n is needed",
        "recurrence",
        _recur_always,
        (0.95, 1.0),
        note="the paper may well assume enough samples; we could not read its theorem",
    ),
    Claim(
        "The time at the teacher does not depend on the step size",
        OURS,
        "the rotation's share p = a / D has no step size in it: the difference is 0",
        "recurrence",
        _step_size,
        (-0.01, 0.01),
        within="0.01",
    ),
    Claim(
        "Each data set's time at the teacher follows from its gradients at and near it",
        OURS,
        "n numbers that walk by the linear drift a − M s, without the data; f ≈ Π(1 − pᵢ)",
        "recurrence",
        _predicted,
        (0.95, 1.0),
    ),
    Claim(
        "The estimator fails on inputs that are not Gaussian",
        _V2,
        "exponential inputs, raw, ReLU: recovery near 0",
        "normalization",
        lambda r: _recovered(r, rule="relu", inputs="exponential", normalize="none"),
        (0.0, 0.3),
    ),
    Claim(
        "Normalization restores it",
        _V2,
        "exponential inputs, standardized, ReLU: recovery near 1",
        "normalization",
        lambda r: _recovered(r, rule="relu", inputs="exponential", normalize="standardize"),
        (0.9, 1.0),
    ),
    Claim(
        "It is the mean that fails, not the law",
        OURS,
        "a mean makes ReLU units die: exponential inputs of mean 0, raw, should recover",
        "normalization",
        lambda r: _recovered(
            r,
            rule="relu",
            inputs={"name": "exponential", "mean": 0.0},
            normalize="none",
        ),
        (0.9, 1.0),
    ),
    Claim(
        "Normalization restores it, whatever the law",
        _V2,
        "whitened inputs have no mean, one scale, no correlation: recovery near 1",
        "normalization",
        _worst_whitened,
        (0.9, 1.0),
        note="stronger than what the paper says",
    ),
    Claim(
        "Plain descent rests at the teacher, without label noise",
        _V2,
        "every residual is 0 there, and so is the gradient",
        "optimizers",
        lambda r: _left(r, 0.0),
        (0.0, 0.05),
    ),
    Claim(
        "With momentum it leaves again",
        OURS,
        "the buffer goes on moving x after the first hit",
        "optimizers",
        lambda r: _left(r, 0.9),
        (0.5, 1.0),
    ),
    Claim(
        "The expected coarse gradient has a closed form",
        "1903.05662",
        "ReLU at v = v* theirs, six rules at any v ours: mean squared deviation 1",
        "population",
        _deviation,
        (0.7, 1.4),
        note="deviations of a cell are correlated, so the interval is somewhat too short",
    ),
)
