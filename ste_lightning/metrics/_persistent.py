"""Metrics of a whole run: counts that checkpoints keep, updated in place at every step."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics import Metric

__all__ = ["PersistentMetric"]


class PersistentMetric(Metric):
    """A metric whose states live in checkpoints and are written in place.

    In place, because assigning module attributes costs more than counting; so states loaded
    from a checkpoint are copied, never shared with it. Every rank holds the same binary
    weights, hence the same states: reduction by "max" hands on the value they share.
    """

    full_state_update = True  # what an update means depends on those before it

    def count(self, name: str, default: Tensor) -> None:
        """Add a state."""
        self.add_state(name, default.clone(), dist_reduce_fx="max", persistent=True)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name in self._defaults:
            setattr(self, name, getattr(self, name).clone())
