"""Compilation with numba: cached on disk where the disk allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic as _intrinsic

__all__ = ["compiled", "emitted", "inlined", "spliced"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with numba, without the GIL, cached between processes if possible.

    A package installed where nobody may write, with no home folder either, gives numba no place
    for its cache; then every process compiles anew instead of failing.
    """
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(function, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of its callers.

    A call that is not inlined counts references of every array it passes, with atomic
    instructions: more time than a small tile of work takes.
    """
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True)  # type: ignore[no-any-return]


def spliced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put the code of ``function`` into its callers before they are compiled.

    :func:`inlined` puts in machine code, which still counts the references of the arrays that the
    call passed; here no call is left. Each place that calls it compiles the code anew.
    """
    return numba.njit(function, nogil=True, error_model="numpy", inline="always")  # type: ignore[no-any-return]


def emitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark ``function`` as one that emits LLVM code (a typed name for numba's ``intrinsic``)."""
    intrinsic: Callable[..., Any] = _intrinsic(function)
    return intrinsic
