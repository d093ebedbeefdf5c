"""Figures as functions that return a matplotlib Figure; nothing here touches pyplot's state."""

from ste_lightning.figures.convergence import convergence_figure
from ste_lightning.figures.training import comparison, learning_curves
from ste_lightning.figures.two_layer import recovery_figure, recurrence_figure

__all__ = [
    "comparison",
    "convergence_figure",
    "learning_curves",
    "recovery_figure",
    "recurrence_figure",
]
