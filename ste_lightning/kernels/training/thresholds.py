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
    each segment, the sums of dy/du and of dy/du (u - edge) / width; then that of the count of
    thresholds, and of dy/du x.
    """
    grad, x = carray(grad_, (last,))[first:], carray(x_, (last,))[first:]
    below, edges = carray(below_, (last,))[first:], carray(edges_, (count + 1,))
    widths, thresholds = carray(widths_, (count,)), carray(thresholds_, (count,))
    totals = carray(totals_, (2 * count + 2,))
    levels, by_scale = 0.0, 0.0
    for i in range(len(x)):
        g, u, k = grad[i], x[i] * s, np.int64(below[i]) - 1
        if k < 0 or not u <= edges[k + 1]:
            grad[i] = np.float32(0)
            levels += g * count if k >= 0 else 0.0
            by_scale += np.float32(0) * x[i]  # NaN for what is not finite
            totals[2 * count - 1 if k >= 0 else count] += np.float32(0) * u
            continue
        slope = g * step / widths[k]
        totals[k] += slope
        totals[count + k] += slope * ((u - edges[k]) / widths[k])
        levels += g * (k + (u > thresholds[k]))
        by_scale += slope * x[i]
        grad[i] = slope * s
    totals[2 * count] += levels
    totals[2 * count + 1] += by_scale
