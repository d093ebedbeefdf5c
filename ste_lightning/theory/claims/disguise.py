"""Claims about backward rules on the weights, of arXiv 2405.05171."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ste_lightning.theory.claims.claim import Claim, Measured, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import Estimate, quotient
from ste_lightning.theory.studies.disguise import Disguise, disguises
from ste_lightning.theory.studies.runner import Result

__all__ = ["CLAIMS"]

_PAPER = "2405.05171"
# Their f' is 0 somewhere within reach, or negative beyond: the paper's assumptions leave them out.
_END = {"approx", "clipped", "clipped(width=0.3)", "swish", "triangular"}


def _of(results: Sequence[Result], optimizer: str, among: Callable[[str], bool]) -> list[Disguise]:
    """Return the rules of an optimizer; of Adam's memories the shortest."""
    found = [d for d in disguises(results) if d.optimizer == optimizer and among(d.rule)]
    return [d for d in found if d.optimizer == "sgd" or d.beta2 == min(e.beta2 for e in found)]


def _largest(
    results: Sequence[Result],
    optimizer: str,
    what: str,
    value: Callable[[Disguise], Estimate],
    among: Callable[[str], bool] = lambda rule: True,
) -> Measured | None:
    """Return the largest of a number over rules, with its rule's name."""
    found = _of(results, optimizer, among)
    if not found:
        return None
    worst = max(found, key=lambda d: value(d).value)
    return measured(f"{what} of the worst of {len(found)} rules, {worst.rule}", value(worst))


def _exponent(
    results: Sequence[Result], optimizer: str, among: Callable[[str], bool] = lambda rule: True
) -> Measured | None:
    """Return the mean exponent over rules; all have the same trials."""
    found = _of(results, optimizer, among)
    known = [d.exponent for d in found if d.exponent]
    if not known:
        return None
    replicates = torch.stack([e.replicates for e in known]).mean(0)
    low, high = (float(replicates.quantile(q)) for q in (0.025, 0.975))
    words = f"exponent of the distance in the step, mean of {len(known)} rules"
    return Measured(words, sum(e.value for e in known) / len(known), low, high)


def _smallest_unchanged(results: Sequence[Result]) -> Measured | None:
    """Return the rule that gains least from the change of start, where it gains at all."""
    gains = [
        (quotient(d.unchanged[0], d.distance[0]), d)
        for d in disguises(results)
        if d.optimizer == "sgd" and d.exponent is not None
    ]
    if not gains:
        return None
    least, d = min(gains, key=lambda pair: pair[0].value)
    words = f"distance without the change of start, times that with it, smallest: {d.rule}"
    return measured(words, least)


def _collapse(results: Sequence[Result]) -> Measured | None:
    """Return the ratio of Adam's distances for two memories at equal lr / (1 - beta2)."""
    found = {(d.rule, d.beta2): d for d in disguises(results) if d.optimizer == "adam"}
    long, short = (found.get(("tanh", beta2)) for beta2 in (0.99, 0.9))
    if long is None or short is None:
        return None
    pairs = [
        (a, b)
        for x, a in zip(long.lr, long.distance, strict=True)
        for y, b in zip(short.lr, short.distance, strict=True)
        if abs(x / 0.01 - y / 0.1) < 1e-9 * x / 0.01
    ]
    if not pairs:
        return None
    ratio = quotient(*pairs[0])
    return measured("tanh: distance with β₂ = 0.99 over that with 0.9, a tenth of the step", ratio)


CLAIMS = (
    Claim(
        "With SGD and a small step every rule on the weights is the identity from another start",
        _PAPER,
        "F(x) = ∫ 1/f' follows the identity's path up to O(step): the limit is 0",
        "disguise",
        lambda r: _largest(r, "sgd", "distance at step 0, extrapolated,", lambda d: d.limit),
        (-0.01, 0.01),
        within="0.01 of the way",
        note="1: as far apart as they went",
    ),
    Claim(
        "The distance falls in proportion to the step",
        OURS,
        "Taylor: an error of step² in each of 1/step steps, if signs flip together: exponent 1",
        "disguise",
        lambda r: _exponent(r, "sgd"),
        (0.9, 1.1),
        within="0.1",
    ),
    Claim(
        "It takes the change of the start",
        _PAPER,
        "the identity from the rule's own start should stay away: a ratio well above 1",
        "disguise",
        _smallest_unchanged,
        (2.0, float("inf")),
    ),
    Claim(
        "It takes a small step",
        _PAPER,
        "at the largest step, 10, a mask stops weights for good: a distance of order 1",
        "disguise",
        lambda r: _largest(r, "sgd", "distance at step 10", lambda d: d.distance[-1]),
        (0.3, float("inf")),
    ),
    Claim(
        "With Adam and a small step nothing need be changed",
        _PAPER,
        "Adam divides f' out where f' > 0 all the way: the limit is 0",
        "disguise",
        lambda r: _largest(
            r,
            "adam",
            "distance at step 0, extrapolated,",
            lambda d: d.limit,
            lambda rule: rule not in _END,
        ),
        (-0.01, 0.01),
        within="0.01 of the way",
        note="rules with f' > 0, as the paper assumes",
    ),
    Claim(
        "and the distance falls with the step",
        _PAPER,
        "from the smallest steps on: an exponent above 0",
        "disguise",
        lambda r: _exponent(r, "adam", lambda rule: rule not in _END),
        (0.0, float("inf")),
        note="rules with f' > 0",
    ),
    Claim(
        "With Adam this includes rules that end: masks, triangles",
        OURS,
        "stronger than the paper: Adam steps over the edge, where f' = 0 stops the weight",
        "disguise",
        lambda r: _largest(r, "adam", "distance at the smallest step", lambda d: d.distance[0]),
        (0.0, 0.05),
    ),
    Claim(
        "For Adam it is step / (1 − β₂) that must be small",
        OURS,
        "f' drops out if it hardly changes while Adam remembers: equal ratios, equal distances",
        "disguise",
        _collapse,
        (0.5, 2.0),
        within="a factor 2",
        note="with β₂ = 0.999 and step 0.001 the ratio is 1, far from small",
    ),
)
