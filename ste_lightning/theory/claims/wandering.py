"""Claims about the wandering last iterate, and about the window of the backward rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ste_lightning.theory.claims.claim import Claim, Measured, at, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import Estimate, difference, power_law, quotient
from ste_lightning.theory.statistics import average, lowest, vertex
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import thresholds
from ste_lightning.theory.studies.wanderers import computed, wrong_share
from ste_lightning.theory.wandering import samples_to_rest
from ste_lightning.theory.window import best_window

__all__ = ["CLAIMS"]

_SMALL, _LARGE = 128, 2  # from which n, and N / n, the limit is claimed


def _over(words: str, estimate: Estimate, expected: float) -> Measured:
    return Measured(
        words, estimate.value / expected, estimate.low / expected, estimate.high / expected
    )


def _worst(found: Sequence[Measured]) -> Measured | None:
    """Return the ratio that is farthest from 1, whichever way."""
    return max(found, key=lambda m: abs(math.log(m.value)), default=None)


def _ratios(results: Sequence[Result]) -> list[Measured]:
    """Return measured over computed shares of wrong signs where fewer than 5 % of the runs rest."""
    found = []
    for r in results:
        s, resting = r.settings, sum(r.columns["last"]) / len(r.columns["last"])
        share = wrong_share(r)
        if resting < 0.05 and share is not None:
            words = f"wrong signs, seen / computed: n = {s['n']}, N = {s['samples']}"
            found.append(_over(f"{words}, {label(s['rule'])}", share, computed(r)))
    return found


def _identity(results: Sequence[Result]) -> Measured | None:
    return _worst(_ratios([r for r in results if r.settings["n"] >= _SMALL]))


def _windows(few: bool) -> Callable[[Sequence[Result]], Measured | None]:
    def measure(results: Sequence[Result]) -> Measured | None:
        cells = [
            r
            for r in results
            if isinstance(r.settings["rule"], dict)
            and (r.settings["samples"] < _LARGE * r.settings["n"]) == few
        ]
        return _worst(_ratios(cells))

    return measure


def _n50(results: Sequence[Result]) -> Measured | None:
    found = [
        _over(f"N50 last, seen / computed, n = {t.n}", t.n50_last, samples_to_rest(t.n))
        for t in thresholds(results)
        if t.n >= _SMALL and not math.isnan(t.n50_last.value)
    ]
    return _worst(found)


def _cosine(results: Sequence[Result]) -> Measured | None:
    """Return the ratio of cosine to expected cosine of one step, mean over the cells."""
    if not results:
        return None
    columns = [[x / r.columns["expected"][0] for x in r.columns["cosine"]] for r in results]
    ratios = torch.tensor(columns, dtype=torch.float64).mean(0)
    words = f"cosine of a step, seen / computed, mean of {len(results)} cells"
    return _over(words, average(ratios), 1.0)


def _best_step(results: Sequence[Result]) -> Measured | None:
    """Return the worst ratio of the best width seen to the closed form's, m > 1."""
    found = []
    for m in sorted({r.settings["m"] for r in results} - {1}):
        for wrong in sorted({r.settings["wrong"] for r in results}):
            cells = at(results, m=m, wrong=wrong)
            where = _lowest(cells, [r.settings["width"] for r in cells], "cosine", -1)
            angle = math.acos(1 - 2 * wrong / cells[0].settings["n"])
            words = f"best width, seen / computed, m = {m}, {wrong} wrong"
            found.append(_over(words, where, best_window(angle, 1 / m)))
    return _worst(found)


def _narrowing(results: Sequence[Result]) -> Measured | None:
    """Return the exponent of a network's best width on the units of its layers."""
    sizes = sorted({r.settings["n"] for r in results})
    if len(sizes) < 2:
        return None
    best = []
    for n in sizes:
        cells = at(results, n=n)
        losses = torch.tensor([r.columns["loss"] for r in cells], dtype=torch.float64)
        if len(cells) < 3:
            return None
        best.append(vertex([r.settings["width"] for r in cells], losses))
    spread = ", ".join(f"{e.value:.2f} at {n}" for n, e in zip(sizes, best, strict=True))
    return measured(f"exponent of the best width on the units ({spread})", power_law(sizes, best))


def _rules(results: Sequence[Result], above: str) -> Measured | None:
    """Return the ratio of a rule's N50 to the identity's, one unit, at the largest n."""
    found = {
        (t.group.get("rule"), t.n): t.n50_last
        for t in thresholds(results)
        if not math.isnan(t.n50_last.value)
    }
    both = [n for rule, n in found if rule == above and ("identity", n) in found]
    if not both:
        return None
    n = max(both)
    ratio = quotient(found[above, n], found["identity", n])
    return measured(f"N50 last, {above} / identity, m = 1, n = {n}", ratio)


def _narrow_gain(results: Sequence[Result]) -> Measured | None:
    """Return the most that a narrower window gains over the one next to 1, over all networks."""
    found = []
    for n in sorted({r.settings["n"] for r in results}):
        cells = [r for r in at(results, n=n) if r.settings["width"] <= 1.0]
        usual = max(cells, key=lambda r: float(r.settings["width"]), default=None)
        for r in cells:
            if usual is not None and r is not usual:
                a, b = (average(cell.columns["accuracy"]) for cell in (r, usual))
                width, one = r.settings["width"], usual.settings["width"]
                words = f"accuracy, width {width:g} less {one:g}, best: {n} units"
                found.append(measured(words, difference(a, b)))
    return max((m for m in found if m is not None), key=lambda m: m.value, default=None)


def _lowest(cells: Sequence[Result], widths: Sequence[float], column: str, sign: int) -> Estimate:
    values = torch.tensor([r.columns[column] for r in cells], dtype=torch.float64)
    return lowest(widths, sign * values)


CLAIMS = (
    Claim(
        "While it wanders, the last iterate has a share of wrong signs that theory computes",
        OURS,
        "noise that is the same in every visit against the pull to w*, nothing fitted: ratio 1",
        "gap",
        _identity,
        (0.85, 1.15),
        within="15 %",
        note="n of 128 or more",
    ),
    Claim(
        "So is the number of samples that the last iterate needs",
        OURS,
        "all signs are right at once in one of T steps: ratio 1; exponent 5/2 as n grows",
        "gap",
        _n50,
        (0.85, 1.15),
        within="15 %",
        note="n of 128 or more",
    ),
    Claim(
        "The same holds for windows of any width",
        OURS,
        "the same balance with the window's signal and noise: ratio 1",
        "wandering",
        _windows(few=False),
        (0.8, 1.2),
        within="20 %",
        note="N of 2n or more",
    ),
    Claim(
        "also with fewer samples",
        OURS,
        "the balance assumes N ≫ n",
        "wandering",
        _windows(few=True),
        (0.8, 1.2),
        within="20 %",
    ),
    Claim(
        "How well one step of few samples points to the teacher follows from its window",
        OURS,
        "signal and noise of the coarse gradient in closed form: ratio 1",
        "window_step",
        _cosine,
        (0.95, 1.05),
        within="5 %",
    ),
    Claim(
        "and so does the window with which it does so best",
        OURS,
        "largest pull² / σ²: ratio 1",
        "window_step",
        _best_step,
        (0.75, 1.33),
        within="a third, the grid's distance",
    ),
    Claim(
        "With one hidden unit ReLU needs twice the identity's samples",
        OURS,
        "half of the signal, half of the variance: ratio 2",
        "phase_diagram",
        lambda r: _rules(r, "relu"),
        (1.8, 2.2),
        within="10 %",
    ),
    Claim(
        "and a narrow rule saves none",
        OURS,
        "noise is the unit's own residual, which narrow rules hear as well: ratio 1",
        "phase_diagram",
        lambda r: _rules(r, "triangular"),
        (0.85, 1.15),
        within="15 %",
        note="with more units it does: see the windows",
    ),
    Claim(
        "A narrower window of the activations' signs gains more than 3 points",
        "2112.00133",
        "accuracy of the best narrower window less that of width 0.95: above 0.03",
        "window_network",
        _narrow_gain,
        (0.03, 1.0),
        note="perceptrons on digits; the paper's are convolutional, on ImageNet",
    ),
    Claim(
        "The best window of a binary network on digits narrows as its layers widen",
        OURS,
        "that of one step with one wrong sign of n, m = n: exponent -0.6",
        "window_network",
        _narrowing,
        (-0.9, -0.3),
        note="by the test loss, after 200 steps of Adam",
    ),
)
