"""Pure tensor functions: forward maps, backward rules, and the estimator that joins them.

``sign(x, rule="reste", o=2.0)`` quantizes to {-1, +1} and differentiates with ReSTE;
``surrogate("reste", o=2.0)`` is the rule itself. No modules, no state.
"""

from ste_lightning.functional import rules
from ste_lightning.functional.descent import pull_towards_teacher
from ste_lightning.functional.maps import hard_sign, hard_step, sign, step
from ste_lightning.functional.straight_through import straight_through
from ste_lightning.functional.surrogate import (
    IndicatorSurrogate,
    Surrogate,
    antiderivative,
    register,
    rule_class,
    surrogate,
    surrogate_names,
)

__all__ = [
    "IndicatorSurrogate",
    "Surrogate",
    "antiderivative",
    "hard_sign",
    "hard_step",
    "pull_towards_teacher",
    "register",
    "rule_class",
    "rules",
    "sign",
    "step",
    "straight_through",
    "surrogate",
    "surrogate_names",
]
