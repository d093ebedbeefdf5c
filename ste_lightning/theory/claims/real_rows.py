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

_LIKE = {"name": "normal_like", "table": "digits"}


def _ratio(results: Sequence[Result], rule: str, normalize: str) -> Measured | None:
    """Return N50 of the last iterate on digits over that on normal rows with their moments."""
    cells = (
        at(results, rule=rule, normalize=normalize, inputs=inputs) for inputs in ("digits", _LIKE)
    )
    found = [thresholds(part) for part in cells]
    if not all(found) or any(math.isnan(t[0].n50_last.value) for t in found):
        return None
    real, normal = (t[0].n50_last for t in found)
    return measured(
        f"N50, digits / normal rows like them, {rule}, {normalize}", quotient(real, normal)
    )


CLAIMS = tuple(
    Claim(
        f"Mean and covariance decide how many samples real rows need ({rule}, {words})",
        OURS,
        "normal rows with the same moments need as many: ratio 1",
        "real_covariance",
        functools.partial(_ratio, rule=rule, normalize=normalize),
        (0.8, 1.25),
        within="25 %",
    )
    for rule in ("identity", "relu")
    for normalize, words in (("standardize", "standardized"), ("whitening", "whitened"))
)
