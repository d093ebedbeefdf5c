"""The inputs under a kernel position as one row, as compiled code."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd import copy_8, copy_16, copy_32, store_64

__all__ = ["gather"]


@inlined
def gather(bits, base, step, index, at, taps, size, rows, to):  # type: ignore[no-untyped-def]
    """Copy the pixels under the kernel at one output position into one row, tap after tap.

    A copy may run over by up to seven bytes, which the next tap overwrites.
    """
    for t in range(taps):
        pixel = np.int64(index[at + t])
        i = 0
        if pixel < 0:
            while i < size:
                store_64(rows, to + i, np.uint64(0))
                i += 8
        else:
            source = base + pixel * step
            while i + 32 <= size:
                copy_32(bits, source + i, rows, to + i)
                i += 32
            if i + 16 <= size:
                copy_16(bits, source + i, rows, to + i)
                i += 16
            while i < size:
                copy_8(bits, source + i, rows, to + i)
                i += 8
        to += size
