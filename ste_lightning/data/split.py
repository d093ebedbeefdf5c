"""Splitting a data set in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

__all__ = ["split"]


def split(
    which: NDArray[np.int64], labels: NDArray[np.int64], second: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split off ``second`` samples, stratified by class where every class reaches both parts.

    Args:
        which: the samples to split.
        labels: classes of all samples.
        second: how many the second part gets; fewer than there are.
        seed: of the split.
    """
    kinds, counts = np.unique(labels[which], return_counts=True)
    everywhere = counts.min() > 1 and len(kinds) <= min(second, len(which) - second)
    first, other = train_test_split(
        which,
        test_size=second,
        stratify=labels[which] if everywhere else None,
        random_state=seed,
    )
    return first, other
