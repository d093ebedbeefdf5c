"""Compilation with numba: cached on disk where the disk allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic as _intrinsic

from ste_lightning.kernels.jit.code_cache import kept_between_processes

__all__ = ["WITHOUT_COUNTING", "compiled", "emitted", "inlined", "spliced"]

WITHOUT_COUNTING: Any = {"error_model": "numpy", "forceinline": True, "_nrt": False}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with numba, without the GIL, cached between processes if possible."""
    with kept_between_processes(function) as kept:
        return numba.njit(function, nogil=True, cache=kept, error_model="numpy")  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of its callers, without counting references of arrays.

    Otherwise every call counts references of all arrays it passes: more time than a small tile
    of work takes. Such a function can neither make arrays nor return them.
    """
    return numba.njit(function, nogil=True, **WITHOUT_COUNTING)  # type: ignore[no-any-return]


def spliced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put the code of ``function`` into its callers before they are compiled.

    :func:`inlined` puts in machine code that cannot make arrays; here no call is left at all, and
    each place that calls it compiles the code anew.
    """
    return numba.njit(function, nogil=True, error_model="numpy", inline="always")  # type: ignore[no-any-return]


def emitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark ``function`` as one that emits LLVM code (a typed name for numba's ``intrinsic``)."""
    intrinsic: Callable[..., Any] = _intrinsic(function)
    return intrinsic
