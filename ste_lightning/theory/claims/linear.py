"""Claims about a quantized linear model in high dimension, of arXiv 2510.10693."""

from __future__ import annotations

from collections.abc import Sequence

from ste_lightning.theory.claims.claim import Claim, Measured, measured
from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.studies.linear import Agreement, agreements
from ste_lightning.theory.studies.runner import Result

__all__ = ["CLAIMS"]

_PAPER = "2510.10693"


def _large(results: Sequence[Result]) -> list[Agreement]:
    found = agreements(results)
    return [a for a in found if a.n == max(b.n for b in found)]


def _named(a: Agreement) -> str:
    return f"{a.bits} bits, range {a.range:g}"


def _error(results: Sequence[Result]) -> Measured | None:
    worst = max(_large(results), key=lambda a: a.deviation.value)
    words = f"rms deviation of the mean error over time, n = {worst.n}, worst cell: {_named(worst)}"
    return measured(words, worst.deviation)


def _density(results: Sequence[Result]) -> Measured | None:
    """Return the largest distance; that of the laws is within ``band`` of it."""
    worst = max(_large(results), key=lambda a: a.distance)
    low, high = max(0.0, worst.distance - worst.band), worst.distance + worst.band
    words = f"Kolmogorov-Smirnov distance, n = {worst.n}, worst cell: {_named(worst)}"
    return Measured(words, worst.distance, low, high)


def _falling(results: Sequence[Result]) -> list[Agreement]:
    return [a for a in _large(results) if a.bits == 2 and a.drop is not None]


def _drop(results: Sequence[Result]) -> Measured | None:
    found = _falling(results)
    if not found:
        return None
    ratios = [(a, Estimate(*_over(a), a.drop.replicates)) for a in found if a.drop is not None]
    worst, ratio = max(ratios, key=lambda pair: abs(pair[1].value - 1))
    return measured(f"time of the drop over the closed form, worst: {_named(worst)}", ratio)


def _over(a: Agreement) -> tuple[float, float, float]:
    assert a.drop is not None
    return a.drop.value / a.plateau, a.drop.low / a.plateau, a.drop.high / a.plateau


def _sharp(results: Sequence[Result]) -> Measured | None:
    longest = max(_falling(results), key=lambda a: a.plateau, default=None)
    if longest is None:
        return None
    words = f"fall of the error around the plateau's end over that on it, {_named(longest)}"
    return measured(words, longest.steepening)


CLAIMS = (
    Claim(
        "In high dimension training follows deterministic equations",
        _PAPER,
        "three order parameters, from a Fokker-Planck equation of the weights",
        "linear",
        _error,
        (0.0, 0.03),
        within="3 %",
    ),
    Claim(
        "The density of the latent weights follows a partial differential equation",
        _PAPER,
        "the same equation, solved on cells",
        "linear",
        _density,
        (0.0, 0.03),
        within="0.03",
    ),
    Claim(
        "The error stays on a plateau, then drops sharply",
        _PAPER,
        "drift is constant between thresholds: all weights cross at nearly the same time",
        "linear",
        _sharp,
        (3.0, float("inf")),
        note="from a narrow start; from a standard Gaussian one there is none",
    ),
    Claim(
        "The plateau's length depends on the quantizer's range",
        _PAPER,
        "t* = 2a / (ρ₁ − ρ₂ a), a the lowest positive level: the ratio is 1",
        "linear",
        _drop,
        (0.9, 1.1),
        within="10 %",
    ),
)
