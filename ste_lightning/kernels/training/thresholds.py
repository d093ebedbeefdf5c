"""Gradients of learned thresholds as compiled code."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    DOUBLES,
    FLOAT,
    FLOATS,
    SIZE,
    addressed,
    carray,
)

__all__ = ["differentiate_thresholds"]


@addressed(*[FLOATS] * 2, BYTES, *[FLOATS] * 3, SIZE, FLOAT, FLOAT, DOUBLES, SIZE, SIZE)
def differentiate_thresholds(  # type: ignore[no-untyped-def]
    grad_, x_, below_, edges_, widths_, thresholds_, count, s, step, totals_, first, last
):
    """Multiply ``grad`` by dy/dx; sum it times other derivatives in float64.

    y = step #{thresholds < u}, u = s x, has slope step / width along each of ``count`` segments
    between edges. ``below`` is how many edges, without the last, lie below u. ``totals`` are, for
    each segment, the sums of dy/du and of dy/du (u - edge); then that of the count of
    thresholds, and of dy/du x.
    """
    grad, x = carray(grad_, (last,))[first:], carray(x_, (last,))[first:]
    below, edges = carray(below_, (last,))[first:], carray(edges_, (count + 1,))
    widths, thresholds = carray(widths_, (count,)), carray(thresholds_, (count,))
    totals = carray(totals_, (2 * count + 2,))
    levels, by_scale = 0.0, 0.0
    for i in range(len(x)):
        g, u, k = grad[i], x[i] * s, max(np.int64(below[i]), np.int64(1)) - 1
        inside = below[i] > 0 and u <= edges[k + 1]
        reached = k + (u > thresholds[k]) if inside else count * (below[i] > 0)
        slope = (g if inside else np.float32(0)) * step / widths[k]
        totals[k] += slope
        totals[count + k] += slope * (u - edges[k])  # NaN for what is not finite
        levels += g * reached
        by_scale += slope * x[i]
        grad[i] = slope * s
    totals[2 * count] += levels
    totals[2 * count + 1] += by_scale
