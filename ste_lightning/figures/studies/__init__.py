"""Figures of the theory's studies, from their stored cells."""

from ste_lightning.figures.studies.curves import curves_figure
from ste_lightning.figures.studies.disguise import disguise_figure
from ste_lightning.figures.studies.gap import gap_figure
from ste_lightning.figures.studies.layers import layer_recurrence_figure
from ste_lightning.figures.studies.linear import linear_figure
from ste_lightning.figures.studies.normalization import normalization_figure
from ste_lightning.figures.studies.optimizers import optimizer_figure
from ste_lightning.figures.studies.outcomes import outcome_figure
from ste_lightning.figures.studies.phase import phase_figure
from ste_lightning.figures.studies.population import population_figure
from ste_lightning.figures.studies.proximal import proximal_figure
from ste_lightning.figures.studies.recurrence import recurrence_study_figure
from ste_lightning.figures.studies.rules import rules_figure
from ste_lightning.figures.studies.scaling import scaling_figure
from ste_lightning.figures.studies.swing import swing_figure
from ste_lightning.figures.studies.votes import votes_figure
from ste_lightning.figures.studies.wandering import wandering_figure, window_step_figure
from ste_lightning.figures.studies.window import window_figure

__all__ = [
    "curves_figure",
    "disguise_figure",
    "gap_figure",
    "layer_recurrence_figure",
    "linear_figure",
    "normalization_figure",
    "optimizer_figure",
    "outcome_figure",
    "phase_figure",
    "population_figure",
    "proximal_figure",
    "recurrence_study_figure",
    "rules_figure",
    "scaling_figure",
    "swing_figure",
    "votes_figure",
    "wandering_figure",
    "window_figure",
    "window_step_figure",
]
