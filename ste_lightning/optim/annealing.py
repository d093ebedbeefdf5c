"""The cosine along which strengths, thresholds and target rates are annealed."""

from __future__ import annotations

import math

__all__ = ["cosine"]


def cosine(initial: float, final: float, progress: float) -> float:
    r"""Return the value at ``progress`` on half a cosine from ``initial`` to ``final``.

    .. math:: v(p) = v_1 + (v_0 - v_1) (1 + \cos \pi p) / 2

    Args:
        initial: the value v_0 at progress 0.
        final: the value v_1 at progress 1 and beyond.
        progress: share of the training that is done; below 0 counts as 0.
    """
    progress = min(max(progress, 0.0), 1.0)
    return final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2
