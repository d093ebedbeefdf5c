"""Claims about real rows as inputs, beside normal rows with the same moments."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from ste_lightning.theory.claims.claim import Claim, Measured, at, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import difference, quotient
from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import thresholds

__all__ = ["CLAIMS"]


def _ratio(results: Sequence[Result], rule: str, normalize: str, table: str) -> Measured | None:
    """Return N50 of the last iterate on real rows over that on normal ones with their moments."""
    like = {"name": "normal_like", "table": table}
    cells = (at(results, rule=rule, normalize=normalize, inputs=inputs) for inputs in (table, like))
    found = [thresholds(part) for part in cells]
    if not all(found) or any(math.isnan(t[0].n50_last.value) for t in found):
        return None
    real, normal = (t[0].n50_last for t in found)
    return measured(
        f"N50, {table} / normal rows like them, {rule}, {normalize}", quotient(real, normal)
    )


def _recovered(results: Sequence[Result], rule: str) -> Measured | None:
    """Return how much oftener standardized garments are recovered than normal rows like them.

    Not the ratio of N50: recovery of real rows stays below one half, so there may be none.
    """
    cells = at(results, rule=rule, normalize="standardize")
    like = {"name": "normal_like", "table": "fashion_mnist"}
    both = [at(cells, inputs=inputs) for inputs in ("fashion_mnist", like)]
    shared = {r.settings["samples"] for r in both[0]} & {r.settings["samples"] for r in both[1]}
    if not shared:
        return None
    most = max(shared)
    real, normal = (average(at(part, samples=most)[0].columns["last"]) for part in both)
    words = f"recovery, fashion_mnist less normal rows like them, {rule}, N = {most}"
    return measured(words, difference(real, normal))


_RULES = ("identity", "relu")

CLAIMS = (
    *(
        Claim(
            f"Mean and covariance decide how many samples {rows} need ({rule}, {words})",
            OURS,
            "normal rows with the same moments need as many: ratio 1",
            "real_covariance",
            functools.partial(_ratio, rule=rule, normalize=normalize, table=table),
            (0.8, 1.25),
            within="25 %",
        )
        for table, rows, normalize, words in (
            ("digits", "rows of digits", "standardize", "standardized"),
            ("digits", "rows of digits", "whitening", "whitened"),
            ("fashion_mnist", "rows of garments", "whitening", "whitened"),
        )
        for rule in _RULES
    ),
    *(
        Claim(
            f"Mean and covariance decide how often rows of garments recover w* ({rule}, "
            "standardized)",
            OURS,
            "as often as normal rows with the same moments: difference 0",
            "real_covariance",
            functools.partial(_recovered, rule=rule),
            (-0.1, 0.1),
            within="0.1",
            note="recovery hardly rises with N",
        )
        for rule in _RULES
    ),
)
