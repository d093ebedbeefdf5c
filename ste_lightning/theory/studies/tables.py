"""Tables of a study: recovery rates, thresholds N50, exponents; each with its 95 % interval."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ste_lightning.theory.estimates import Estimate, difference, power_law, quotient
from ste_lightning.theory.population import can_descend
from ste_lightning.theory.statistics import half_point
from ste_lightning.theory.studies.cells import label, rule_of
from ste_lightning.theory.studies.runner import Result

__all__ = [
    "Threshold",
    "exponents",
    "gap_rows",
    "order",
    "phase_rows",
    "rule_rows",
    "thresholds",
    "varied",
    "window_rows",
]

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Threshold:
    """N50 of one group of cells that differ in N alone.

    Attributes:
        group: the other settings that vary in the study, as labels.
        n: inputs of the first layer.
        samples: the numbers of samples, ascending.
        last: rates of recovery of the last iterate at them.
        ergodic: of the averaged iterate.
        n50_last: N at which half of the trials recover, by the last iterate.
        n50_ergodic: by the averaged one.
    """

    group: Mapping[str, str]
    n: int
    samples: list[int]
    last: list[float]
    ergodic: list[float]
    n50_last: Estimate
    n50_ergodic: Estimate

    @property
    def ratio(self) -> Estimate | None:
        """N50 last / averaged; None where one of them is only bounded."""
        last, averaged = self.n50_last, self.n50_ergodic
        if math.isnan(last.value) or math.isnan(averaged.value):
            return None
        return quotient(last, averaged)


def varied(results: Sequence[Result]) -> list[str]:
    """Return the settings in which the cells differ."""
    keys = list(dict.fromkeys(key for result in results for key in result.settings))
    return [key for key in keys if len({_plain(r.settings.get(key)) for r in results}) > 1]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def thresholds(results: Sequence[Result]) -> list[Threshold]:
    """Return N50 for every combination of the settings other than ``samples`` (and what n sets)."""
    keys = [key for key in varied(results) if key not in ("samples", "n")]
    # What n determines, such as the number of trials, makes no group.
    keys = [
        key
        for key in keys
        if len({(r.settings["n"], _plain(r.settings.get(key))) for r in results})
        > len({r.settings["n"] for r in results})
    ]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        place = (*(_plain(result.settings.get(key)) for key in keys), str(result.settings["n"]))
        groups.setdefault(place, []).append(result)
    found = []
    for members in groups.values():
        members = sorted(members, key=lambda r: r.settings["samples"])
        samples = [r.settings["samples"] for r in members]
        last, ergodic = (
            torch.tensor([r.columns[name] for r in members], dtype=torch.bool)
            for name in ("last", "ergodic")
        )
        found.append(
            Threshold(
                {key: label(members[0].settings.get(key)) for key in keys},
                members[0].settings["n"],
                samples,
                last.double().mean(1).tolist(),
                ergodic.double().mean(1).tolist(),
                half_point(samples, last),
                half_point(samples, ergodic),
            )
        )
    return found


def exponents(
    found: Sequence[Threshold], smallest: int = 64
) -> list[tuple[Mapping[str, str], str, Estimate]]:
    """Return (group, iterate, exponent) of N50 on n, over n >= ``smallest``, where known."""
    groups: dict[str, list[Threshold]] = {}
    for threshold in found:
        groups.setdefault(_plain(dict(threshold.group)), []).append(threshold)
    fits = []
    for members in groups.values():
        for iterate in ("last", "ergodic"):
            points = [(t.n, t.n50_last if iterate == "last" else t.n50_ergodic) for t in members]
            known = [(n, e) for n, e in points if n >= smallest and not math.isnan(e.value)]
            if len(known) > 1:
                sizes, values = zip(*known, strict=True)
                fits.append((members[0].group, iterate, power_law(sizes, values)))
    return fits


def phase_rows(results: Sequence[Result], smallest: int = 64) -> list[Row]:
    """Return a row per n: N50 of both iterates, and a row per fitted exponent."""
    found = thresholds(results)
    rows: list[Row] = [
        {**t.group, "n": t.n, "N50 last": str(t.n50_last), "N50 averaged": str(t.n50_ergodic)}
        for t in found
    ]
    for group, iterate, fit in exponents(found, smallest):
        column = "N50 last" if iterate == "last" else "N50 averaged"
        rows.append({**group, "n": f">= {smallest}", column: f"n^{fit}"})
    return rows


def gap_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per n: N50 of both iterates, their ratio, and the exponents since the last n.

    An exponent is log(N50 ratio) / log(n ratio) of neighbouring n, with its bootstrap interval;
    ``rise`` says by how much the last iterate's exceeds the one before.
    """
    groups: dict[str, list[Threshold]] = {}
    for t in thresholds(results):
        groups.setdefault(_plain(dict(t.group)), []).append(t)
    rows = []
    for members in groups.values():
        members.sort(key=lambda t: t.n)
        exponent: Estimate | None = None
        for before, t in zip([None, *members[:-1]], members, strict=True):
            earlier, exponent = exponent, _local_exponent(before, t, "n50_last")
            averaged = _local_exponent(before, t, "n50_ergodic")
            row: Row = {**t.group, "n": t.n}
            row |= {"N50 last": str(t.n50_last), "N50 averaged": str(t.n50_ergodic)}
            row |= {"ratio": str(t.ratio or ""), "exponent last": str(exponent or "")}
            row["rise"] = str(difference(exponent, earlier)) if exponent and earlier else ""
            row["exponent averaged"] = str(averaged or "")
            rows.append(row)
    return rows


def _local_exponent(before: Threshold | None, t: Threshold, which: str) -> Estimate | None:
    """Return the exponent of N50 from one n to the next; None where either is only bounded."""
    if before is None:
        return None
    pair: list[Estimate] = [getattr(before, which), getattr(t, which)]
    known = not any(math.isnan(e.value) for e in pair)
    return power_law([before.n, t.n], pair) if known else None


def rule_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per rule, best first: N50, and why it can or cannot descend."""
    specs = {label(r.settings["rule"]): r.settings["rule"] for r in results}
    rows = []
    for t in sorted(thresholds(results), key=lambda t: order(t.n50_last)):
        name = t.group.get("rule", next(iter(specs)))
        answer = can_descend(rule_of(specs[name]), angles=24)
        rows.append(
            {
                "rule": name,
                "N50 last": str(t.n50_last),
                "N50 averaged": str(t.n50_ergodic),
                "in expectation": "descends"
                if "every angle" in answer.reason and answer
                else answer.reason,
            }
        )
    return rows


def order(estimate: Estimate) -> float:
    """Return what to sort by: the value, or its lower bound where only that is known."""
    return estimate.low if math.isnan(estimate.value) else estimate.value


def window_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per n and rule: N50, and by how much it exceeds the best rule's at that n.

    The factor's interval is the bootstrap's over seeds, which all rules of an n share; the best
    rule is the one with the smallest known N50, and rules whose interval holds 1 are as good.
    Where N50 is only bounded, so is the factor, and so may be the verdict.
    """
    by_n: dict[int, list[Threshold]] = {}
    for t in thresholds(results):
        by_n.setdefault(t.n, []).append(t)
    rows = []
    for n, members in sorted(by_n.items()):
        known = [t.n50_last for t in members if not math.isnan(t.n50_last.value)]
        best = min(known, key=lambda e: e.value) if known else None
        for t in members:
            factor, verdict = _against(t.n50_last, best)
            row = {**t.group, "n": n, "N50 last": str(t.n50_last)}
            rows.append({**row, "times the best": factor, "": verdict})
    return rows


def _against(estimate: Estimate, best: Estimate | None) -> tuple[str, str]:
    """Return how many times ``best`` an N50 is, and in a word whether it is worse."""
    if best is None:
        return "", "unknown"
    if math.isnan(estimate.value):
        if math.isinf(estimate.high):
            return f"> {estimate.low / best.value:.2f}", (
                "worse" if estimate.low > best.high else "unknown"
            )
        return f"< {estimate.high / best.value:.2f}", (
            "better" if estimate.high < best.low else "unknown"
        )
    factor = quotient(estimate, best)
    verdict = "best" if estimate is best else "as good" if factor.low <= 1 else "worse"
    return str(factor), verdict
