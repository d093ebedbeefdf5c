"""Rules on the weights against the identity: distance, its exponent in the step, its limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from ste_lightning.theory.estimates import Estimate, power_law
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result

__all__ = ["Disguise", "disguise_rows", "disguises"]

_REPLICATES = 400
_SMALLEST = 3  # steps over which exponent and limit are fitted
_SAME = 1e-6  # rounding: the two runs are one


@dataclasses.dataclass(frozen=True)
class Disguise:
    """One rule with one optimizer, over step sizes.

    Attributes:
        rule: its label.
        optimizer: ``sgd`` or ``adam``.
        beta2: of Adam.
        lr: step sizes, ascending.
        distance: mean over trials at each of them.
        unchanged: where the identity begins at the rule's own start.
        outside: share of weights at each step that end where f' is 0.
        exponent: of the distance in the step, over the three smallest; None where they are 0.
        limit: the straight line through these distances, at step 0.
    """

    rule: str
    optimizer: str
    beta2: float
    lr: list[float]
    distance: list[Estimate]
    unchanged: list[Estimate]
    outside: list[float]
    exponent: Estimate | None
    limit: Estimate


def disguises(results: Sequence[Result]) -> list[Disguise]:
    """Return what every rule and optimizer of a study gave."""
    groups: dict[tuple[str, str, float], list[Result]] = {}
    for r in results:
        beta2 = float(r.settings.get("beta2", 0.99))
        optimizer = str(r.settings.get("optimizer", "sgd"))
        groups.setdefault((label(r.settings["rule"]), optimizer, beta2), []).append(r)
    return [_disguise(*key, members) for key, members in groups.items()]


def _disguise(rule: str, optimizer: str, beta2: float, members: list[Result]) -> Disguise:
    members = sorted(members, key=lambda r: r.settings["lr"])
    lr = [float(r.settings["lr"]) for r in members]
    distance = [_mean(r.columns["distance"]) for r in members]
    small, sizes = distance[:_SMALLEST], lr[:_SMALLEST]
    fits = len(small) > 1 and all(float(e.replicates.min()) > _SAME for e in small)
    return Disguise(
        rule,
        optimizer,
        beta2,
        lr,
        distance,
        [_mean(r.columns["unchanged"]) for r in members],
        [sum(r.columns["outside"]) / len(r.columns["outside"]) for r in members],
        power_law(torch.tensor(sizes), small) if fits else None,
        _limit(sizes, small),
    )


def _mean(values: Sequence[float]) -> Estimate:
    """Return the mean with the bootstrap's interval over trials, the same trials at every step."""
    x = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(len(x), (_REPLICATES, len(x)), generator=generator)
    return _estimate(float(x.mean()), x[picked].mean(1))


def _limit(sizes: Sequence[float], values: Sequence[Estimate]) -> Estimate:
    """Return the height at 0 of the least-squares line through values at sizes."""
    x = torch.tensor(sizes, dtype=torch.float64)
    design = torch.stack([torch.ones_like(x), x], 1)
    first = torch.linalg.pinv(design)[0]
    y = torch.tensor([e.value for e in values], dtype=torch.float64)
    return _estimate(float(first @ y), first @ torch.stack([e.replicates for e in values]))


def _estimate(value: float, replicates: torch.Tensor) -> Estimate:
    low, high = (float(replicates.quantile(q)) for q in (0.025, 0.975))
    return Estimate(value, low, high, replicates)


def disguise_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per rule and optimizer: distances, their exponent and limit.

    ``unchanged start``: the distance at the smallest step where the identity begins at the rule's
    start; ``outside``: weights that end there where f' is 0.
    """
    rows = []
    for d in disguises(results):
        row: dict[str, Any] = {"rule": d.rule, "optimizer": d.optimizer}
        if d.optimizer == "adam":
            row["optimizer"] += f", beta2 {d.beta2:g}"
        row["exponent"] = str(d.exponent or "identical")
        row["limit"] = f"{d.limit.value:.4f} [{d.limit.low:.4f}, {d.limit.high:.4f}]"
        row["steps"] = f"{d.lr[0]:g} to {d.lr[-1]:g}"
        row["smallest step"] = str(d.distance[0])
        row["largest step"] = f"{d.distance[-1].value:.4g}"
        row["unchanged start"] = f"{d.unchanged[0].value:.3f}"
        row["outside"] = f"{d.outside[0]:.2f}"
        rows.append(row)
    return rows
