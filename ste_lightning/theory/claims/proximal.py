"""Claims about proximal descent, of arXiv 2503.15748."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ste_lightning.theory.claims.claim import Claim, Measured, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import Estimate, difference, power_law, quotient
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import thresholds

__all__ = ["CLAIMS"]

_PARQ = "2503.15748"


def _n50(results: Sequence[Result], ramp: str, which: str) -> dict[int, Estimate]:
    found = {t.n: getattr(t, which) for t in thresholds(results) if t.group.get("ramp") == ramp}
    return {n: e for n, e in sorted(found.items()) if not math.isnan(e.value)}


def _quotient(
    results: Sequence[Result], words: str, above: tuple[str, str], below: tuple[str, str]
) -> Measured | None:
    """Return the ratio of two N50 at the largest n that has both."""
    first, second = _n50(results, *above), _n50(results, *below)
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    return measured(f"{words} at n = {both[-1]}", quotient(first[both[-1]], second[both[-1]]))


def _exponents(results: Sequence[Result]) -> Measured | None:
    """Return by how much PARQ's last iterate's exponent exceeds the hard one's, n >= 64."""
    fits = []
    for ramp in ("parq", "hard"):
        known = {n: e for n, e in _n50(results, ramp, "n50_last").items() if n >= 64}
        if len(known) < 2:
            return None
        fits.append(power_law(list(known), list(known.values())))
    parq, hard = fits
    words = f"exponent of N50, n >= 64, PARQ's {parq} less the hard one's {hard}"
    return measured(words, difference(parq, hard))


CLAIMS = (
    Claim(
        "Proximal descent converges in the last iterate",
        _PARQ,
        "its last iterate needs no more samples than its averaged one: ratio at most 1",
        "proximal",
        lambda r: _quotient(
            r, "N50 last / averaged, PARQ", ("parq", "n50_last"), ("parq", "n50_ergodic")
        ),
        (0.0, 1.0),
    ),
    Claim(
        "So its last iterate needs fewer samples than straight-through descent's",
        _PARQ,
        "ratio below 1",
        "proximal",
        lambda r: _quotient(r, "N50 last, PARQ / hard", ("parq", "n50_last"), ("hard", "n50_last")),
        (0.0, 1.0),
        note="at small n it needs more: see the figure",
    ),
    Claim(
        "PARQ's need of samples grows more slowly with n than straight-through descent's",
        OURS,
        "the exponents differ by less than 0",
        "proximal",
        _exponents,
        (-math.inf, 0.0),
    ),
)
