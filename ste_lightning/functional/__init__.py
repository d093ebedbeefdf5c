"""Pure tensor functions: forward maps, backward rules, and the estimator that joins them.

``sign(x, rule="reste", o=2.0)`` quantizes to {-1, +1} and differentiates with ReSTE;
``surrogate("reste", o=2.0)`` is the rule itself. No modules, no state.
"""

from ste_lightning.functional import rules, schedules
from ste_lightning.functional.annealing import soft_sign
from ste_lightning.functional.estimator.rule_check import pull_towards_teacher
from ste_lightning.functional.estimator.straight_through import straight_through
from ste_lightning.functional.estimator.surrogate import (
    IndicatorSurrogate,
    RuleSpec,
    Surrogate,
    antiderivative,
    register,
    rule_class,
    surrogate,
    surrogate_names,
)
from ste_lightning.functional.learned_scale import (
    clip_quantize,
    learned_scale_quantize,
    scale_gradient,
)
from ste_lightning.functional.maps import hard_sign, hard_step, sign, step
from ste_lightning.functional.rounding import fake_quantize, round
from ste_lightning.functional.thresholds import replace_value, threshold_quantize

__all__ = [
    "IndicatorSurrogate",
    "RuleSpec",
    "Surrogate",
    "antiderivative",
    "clip_quantize",
    "fake_quantize",
    "hard_sign",
    "hard_step",
    "learned_scale_quantize",
    "pull_towards_teacher",
    "register",
    "replace_value",
    "round",
    "rule_class",
    "rules",
    "scale_gradient",
    "schedules",
    "sign",
    "soft_sign",
    "step",
    "straight_through",
    "surrogate",
    "surrogate_names",
    "threshold_quantize",
]
