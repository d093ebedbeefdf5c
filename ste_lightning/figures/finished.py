"""A run as figures and reports see it."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L

__all__ = ["Finished"]


@dataclass(frozen=True)
class Finished:
    """What a figure may draw from.

    Attributes:
        model: the trained LightningModule.
        data: its LightningDataModule.
        history: rows of metrics.csv.
        metrics: final metric -> value.
    """

    model: L.LightningModule
    data: L.LightningDataModule
    history: list[dict[str, float]]
    metrics: dict[str, float]
