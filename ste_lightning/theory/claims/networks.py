"""Claims about deep networks: the order of binarizing, and the share of quantized training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ste_lightning.theory.claims.claim import Claim, Measured, at, mean, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import Estimate, difference
from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.means import best_places
from ste_lightning.theory.studies.runner import Result

__all__ = ["CLAIMS"]

_ORDER, _SHARE = "2606.27759", "2509.22935"


def _gain(
    results: Sequence[Result], part: str, depth: int, inputs: str = "digits", over: str = "back"
) -> Estimate | None:
    """Return the accuracy of front to back less that of another order."""
    here = at(results, inputs=inputs, part=part, depth=depth, gradient="blocked")
    both = [at(here, order=order) for order in ("front", over)]
    if not all(both):
        return None
    # Planted classes hardly generalize from so few rows: there the training rows are asked.
    column = "accuracy" if inputs == "digits" else "fit"
    return difference(*(average(cells[0].columns[column]) for cells in both))


def _order(results: Sequence[Result], part: str, inputs: str = "digits") -> Measured | None:
    deepest = max(r.settings["depth"] for r in results)
    rows = "accuracy" if inputs == "digits" else "training accuracy"
    words = f"{rows}, front to back less back to front, binary {part}, {deepest} layers"
    return measured(words, _gain(results, part, deepest, inputs))


def _together(results: Sequence[Result], part: str) -> Measured | None:
    deepest = max(r.settings["depth"] for r in results)
    words = f"accuracy, front to back less all at once, binary {part}, {deepest} layers"
    return measured(words, _gain(results, part, deepest, over="together"))


def _deeper(results: Sequence[Result]) -> Measured | None:
    depths = sorted({r.settings["depth"] for r in results})
    first, last = (_gain(results, "activations", depth) for depth in (depths[0], depths[-1]))
    if first is None or last is None:
        return None
    words = f"that difference at {depths[-1]} layers less that at {depths[0]}"
    return measured(words, difference(last, first))


def _estimator(results: Sequence[Result]) -> Measured | None:
    deepest = max(r.settings["depth"] for r in results)
    here = at(results, inputs="digits", part="both", depth=deepest)
    front = at(here, order="front", gradient="blocked")
    start = at(here, order="start", gradient="passed")
    if not front or not start:
        return None
    accuracies = (average(r[0].columns["accuracy"]) for r in (front, start))
    words = f"accuracy, front to back less straight-through, both binary, {deepest} layers"
    return measured(words, difference(*accuracies))


def _growth(results: Sequence[Result], levels: int, inputs: str | None = None) -> Measured | None:
    """Return the exponent of the best share on the total number of steps, all totals alike."""
    here = at(results, levels=levels, cooldown="fused", inputs=inputs)  # None: digits
    places = [(g["steps"], best) for g, best in best_places(here, "share", "loss") if "steps" in g]
    if len(places) < 2:
        return None
    places.sort(key=lambda place: place[0])
    x = torch.tensor([steps for steps, _ in places], dtype=torch.float64).log()
    slope = (x - x.mean()) / (x - x.mean()).square().sum()
    # Not weighed by their variances: that of a place on a grid may be 0.
    exponent = _combined([best for _, best in places], lambda best: slope @ best.log())
    spread = ", ".join(f"{e.value:g} of {steps}" for steps, e in places)
    return measured(f"exponent of the best share on steps ({spread})", exponent)


def _fewer_bits(results: Sequence[Result]) -> Measured | None:
    """Return the geometric mean, over totals of steps, of binary over 2-bit weights' best share."""
    places: list[Estimate] = []
    for steps in sorted({r.settings["steps"] for r in results}):
        for levels in (2, 4):
            cells = at(results, levels=levels, steps=steps, cooldown="fused", inputs=None)
            if len(cells) < 2:
                return None
            places.append(best_places(cells, "share", "loss")[0][1])
    ratio = _combined(places, lambda best: (best[::2] / best[1::2]).log().mean(0).exp())
    return measured("best share, binary / 2-bit weights, mean over totals", ratio)


def _recurring(
    results: Sequence[Result], column: str, others: bool, batch_size: int | None
) -> Measured | None:
    """Return the mean over networks of a correlation over the weights of a layer."""
    cells = at(results, others=others, batch_size=batch_size)
    if not cells:
        return None
    words = {"coupled": "predicted with coupling", "alone": "predicted for weights alone"}[column]
    what = f"correlation over a layer's weights of time at the rarer sign, seen and {words}"
    return mean(what, cells[0].columns[column])


def _fused(results: Sequence[Result]) -> Measured | None:
    """Return the geometric mean, over totals of steps, of separate over fused losses."""
    best = []
    for steps in sorted({r.settings["steps"] for r in results}):
        for cooldown in ("separate", "fused"):
            cells = at(results, levels=3, steps=steps, cooldown=cooldown, inputs=None)
            if not cells:
                return None
            best.append(min((average(r.columns["loss"]) for r in cells), key=lambda e: e.value))
    ratio = _combined(best, lambda losses: (losses[::2] / losses[1::2]).log().mean(0).exp())
    return measured("test loss, separate / fused, each at its best share, mean over totals", ratio)


def _combined(estimates: Sequence[Estimate], function: Callable[[Tensor], Tensor]) -> Estimate:
    """Return a function of several estimates, with the interval of its replicates."""
    value = function(torch.tensor([e.value for e in estimates], dtype=torch.float64))
    replicates = function(torch.stack([e.replicates for e in estimates]))
    low, high = (float(replicates.quantile(q)) for q in (0.025, 0.975))
    return Estimate(float(value), low, high, replicates)


CLAIMS = (
    Claim(
        "Making activations binary front to back is better than back to front",
        _ORDER,
        "a binary activation passes no gradient: back to front stops all layers at the first turn",
        "order",
        lambda r: _order(r, "activations"),
        (0.0, 1.0),
    ),
    Claim(
        "and the more so the deeper the network",
        _ORDER,
        "likewise: the difference grows",
        "order",
        _deeper,
        (0.0, 1.0),
    ),
    Claim(
        "Front to back is better than all layers at once: binary activations and weights",
        _ORDER,
        "all at once stops all layers but the last: the difference exceeds 0",
        "order",
        lambda r: _together(r, "both"),
        (0.0, 1.0),
    ),
    Claim(
        "For binary activations alone all layers at once do as well as front to back",
        OURS,
        "once a layer is binary those before it stop, either way: the difference is 0",
        "order",
        lambda r: _together(r, "activations"),
        (-0.03, 0.03),
        within="0.03",
    ),
    Claim(
        "For binary weights alone the order does not matter",
        _ORDER,
        "a binary weight passes the gradient on: the difference is 0",
        "order",
        lambda r: _order(r, "weights"),
        (-0.02, 0.02),
        within="0.02",
    ),
    Claim(
        "So it is for classes that a binary network planted: activations",
        _ORDER,
        "likewise",
        "order",
        lambda r: _order(r, "activations", "planted"),
        (0.0, 1.0),
    ),
    Claim(
        "and weights alone",
        _ORDER,
        "likewise: the difference is 0",
        "order",
        lambda r: _order(r, "weights", "planted"),
        (-0.02, 0.02),
        within="0.02",
        note="of the training rows; on others all orders are near chance, 0.55",
    ),
    Claim(
        "Front to back, without an estimator, is better than straight-through training",
        _ORDER,
        "the difference exceeds 0",
        "order",
        _estimator,
        (0.0, 1.0),
        note="in perceptrons with batch norm; the paper's are convolutional, up to 50 layers",
    ),
    *(
        Claim(
            f"The best share of quantized training grows with the total of steps, {name} weights",
            _SHARE,
            "the exponent exceeds 0",
            "share",
            functools.partial(_growth, levels=levels, inputs=inputs),
            (1e-9, math.inf),
        )
        for levels, inputs, name in (
            (2, None, "binary"),
            (3, None, "ternary"),
            (4, None, "2-bit"),
            (3, "fashion_mnist", "Fashion-MNIST, ternary"),
        )
    ),
    Claim(
        "Fewer bits ask for a larger share",
        _SHARE,
        "it is said to follow the steps per byte of weights: ratio above 1",
        "share",
        _fewer_bits,
        (1 + 1e-9, math.inf),
    ),
    Claim(
        "Fusing the cool-down with quantized training saves steps",
        _SHARE,
        "at as many steps the loss is lower: ratio above 1",
        "share",
        _fused,
        (1.0, math.inf),
    ),
    *(
        Claim(
            text,
            OURS,
            derivation,
            "recurrence_network",
            functools.partial(_recurring, column=column, others=others, batch_size=batch_size),
            holds,
        )
        for text, derivation, column, others, batch_size, holds in (
            (
                "A layer's signs in a network on digits recur as the drift at and near its usual "
                "signs predicts",
                "all else held, all rows in a step: the two-layer model's balance a − M p",
                "coupled",
                False,
                None,
                (0.9, 1.0),
            ),
            (
                "It takes the coupling of the weights",
                "each weight alone, p = a / D, is not enough: a correlation below 0.9",
                "alone",
                False,
                None,
                (-1.0, 0.9),
            ),
            (
                "It does so with minibatches, too",
                "they move latent weights at random beside the drift",
                "coupled",
                False,
                64,
                (0.9, 1.0),
            ),
            (
                "and while all layers train",
                "the drift that was measured is not that of the layers later",
                "coupled",
                True,
                None,
                (0.9, 1.0),
            ),
        )
    ),
)
