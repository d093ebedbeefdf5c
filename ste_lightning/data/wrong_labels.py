"""Labels that are wrong on purpose, to see what a method makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["check_share", "with_wrong_labels"]


def check_share(wrong_labels: float) -> float:
    """Return the share of wrong labels if it is one below 1."""
    require(0 <= wrong_labels < 1, "wrong_labels", wrong_labels, "use a share in [0, 1)")
    return wrong_labels


def with_wrong_labels(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Return the labels with a share of them moved to another class, uniformly at random.

    Args:
        labels: int64 (N,), 0..classes-1.
        share: of the labels that become wrong, in [0, 1).
        classes: number of classes.
        seed: chooses labels and classes.
    """
    drawn = torch.Generator().manual_seed(seed)
    count = round(share * len(labels))
    which = torch.randperm(len(labels), generator=drawn)[:count]
    moves = torch.randint(1, classes, (count,), generator=drawn)
    wrong = labels.clone()
    wrong[which] = (labels[which] + moves) % classes
    return wrong
