"""Compiled functions that take addresses: calling them costs a microsecond, with arrays ten."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
from numba import types

from ste_lightning.kernels.jit.code_cache import kept_between_processes

__all__ = [
    *("BYTES", "DOUBLES", "FLAG", "FLOAT", "FLOATS", "INTEGERS", "SIZE", "SUMS", "WORDS"),
    *("addressed", "carray", "on_demand"),
]

carray: Any = numba.carray  # type: ignore[attr-defined]

FLOAT, SIZE = types.float32, types.int64
FLAG = SIZE  # 0 for no
_pointer: Any = types.CPointer
BYTES, FLOATS, WORDS = (_pointer(kind) for kind in (types.uint8, types.float32, types.uint32))
INTEGERS, SUMS, DOUBLES = (_pointer(kind) for kind in (types.int64, types.int32, types.float64))
_IN_C: dict[Any, Any] = {FLOAT: ctypes.c_float}  # the rest is as wide as an address


def addressed(
    *arguments: Any, returns: Any = types.void
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: compile a function of these arguments; tensors are given by ``data_ptr()``.

    Calls do not hold the GIL. The code is cached on disk where the disk allows it, as in
    :func:`~ste_lightning.kernels.jit.compiling.compiled`. Who calls must keep the tensors
    alive, and is trusted with their sizes.

    Args:
        arguments: ``BYTES``, ``FLOATS``, ``DOUBLES``, ``WORDS``, ``INTEGERS`` and ``SUMS`` for
            addresses of uint8, float32, float64, uint32, int64 and int32; ``SIZE``, ``FLOAT`` and
            ``FLAG`` for numbers.
        returns: ``SIZE`` for a function that returns an integer; nothing by default.
    """
    signature = returns(*arguments)
    # ctypes converts an address in half the time that it takes for an integer of that size.
    kinds: list[Any] = [_IN_C.get(kind, ctypes.c_void_p) for kind in arguments]
    result: Any = ctypes.c_int64 if returns == SIZE else None

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        with kept_between_processes(function) as kept:
            native: Any = numba.cfunc(signature, cache=kept, error_model="numpy")(function)
        call: Any = ctypes.CFUNCTYPE(result, *kinds)(native.address)
        call.code = native  # lives as long as who may call it
        return call  # type: ignore[no-any-return]

    return compile_


def on_demand(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[[], Callable[..., None]]]:
    """Decorator: as :func:`addressed`, compiled by the first call of what it returns.

    That call takes nothing and returns the compiled function.
    """

    def delay(function: Callable[..., Any]) -> Callable[[], Callable[..., None]]:
        return functools.cache(lambda: addressed(*arguments)(function))

    return delay
