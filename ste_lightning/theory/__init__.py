"""Theory of straight-through training: closed forms, and the engine that simulates it."""

from ste_lightning.theory import population
from ste_lightning.theory.advice import Advice, required_samples
from ste_lightning.theory.coupling import (
    LinearDrift,
    linear_drift,
    predict_coupled_recurrence,
)
from ste_lightning.theory.prediction import (
    RecurrencePrediction,
    predict_recurrence,
    restoring_drift,
    teacher_gradient,
)
from ste_lightning.theory.simulate import simulate
from ste_lightning.theory.simulation import Simulation

__all__ = [
    "Advice",
    "LinearDrift",
    "RecurrencePrediction",
    "Simulation",
    "linear_drift",
    "population",
    "predict_coupled_recurrence",
    "predict_recurrence",
    "required_samples",
    "restoring_drift",
    "simulate",
    "teacher_gradient",
]
