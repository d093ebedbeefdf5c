"""Claims about real rows as inputs, beside normal rows with the same moments."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from ste_lightning.theory.claims.claim import Claim, Measured, at, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.estimates import quotient
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


CLAIMS = tuple(
    Claim(
        f"Mean and covariance decide how many samples {rows} need ({rule}, {words})",
        OURS,
        "normal rows with the same moments need as many: ratio 1",
        "real_covariance",
        functools.partial(_ratio, rule=rule, normalize=normalize, table=table),
        (0.8, 1.25),
        within="25 %",
    )
    for table, rows in (("digits", "real rows"), ("fashion_mnist", "rows of garments"))
    for rule in ("identity", "relu")
    for normalize, words in (("standardize", "standardized"), ("whitening", "whitened"))
)
