"""Compiled functions that take addresses: calling them costs a microsecond, with arrays ten."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
from numba import types

from ste_lightning.kernels.jit.arrays import carray as carray
from ste_lightning.kernels.jit.code_cache import kept_between_processes

__all__ = [
    *("BYTES", "CODES", "DOUBLES", "FLAG", "FLOAT", "FLOATS", "HALVES", "INTEGERS", "SIZE"),
    *("SUMS", "WORDS", "addressed", "carray", "on_demand"),
]

FLOAT, SIZE = types.float32, types.int64
FLAG = SIZE  # 0 for no
_pointer: Any = types.CPointer
BYTES, FLOATS, WORDS = (_pointer(kind) for kind in (types.uint8, types.float32, types.uint32))
HALVES = _pointer(types.uint16)  # bfloat16 numbers
CODES = _pointer(types.int8)  # bytes that epilogues know from bits by their type
INTEGERS, SUMS, DOUBLES = (_pointer(kind) for kind in (types.int64, types.int32, types.float64))
_IN_C: dict[Any, Any] = {FLOAT: ctypes.c_float}  # the rest is as wide as an address


class CFunction:
    """A function of addresses and numbers, compiled by its first call."""

    __slots__ = ("__wrapped__", "_call", "_kinds", "_result", "_signature")

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self.__wrapped__, self._signature = function, signature
        # ctypes converts an address in half the time that it takes for an integer of that size
        self._kinds = [_IN_C.get(kind, ctypes.c_void_p) for kind in signature.args]
        self._result: Any = ctypes.c_int64 if signature.return_type == SIZE else None
        self._call: Callable[..., Any] = self._first

    def __call__(self, *arguments: Any) -> Any:
        """Call the machine code."""
        return self._call(*arguments)

    def compiled(self) -> Callable[..., Any]:
        """Return the machine code as a function; its ``code`` is what numba made."""
        if self._call == self._first:
            self._compile()
        return self._call

    def _first(self, *arguments: Any) -> Any:
        self._compile()
        return self._call(*arguments)

    def _compile(self) -> None:
        with kept_between_processes(self.__wrapped__) as kept:
            make = numba.cfunc(self._signature, cache=kept, error_model="numpy")
            native: Any = make(self.__wrapped__)
        call: Any = ctypes.CFUNCTYPE(self._result, *self._kinds)(native.address)
        call.code = native  # lives as long as who may call it
        self._call = call


def addressed(
    *arguments: Any, returns: Any = types.void
) -> Callable[[Callable[..., Any]], CFunction]:
    """Decorator: compile a function of these arguments; tensors are given by ``data_ptr()``.

    It is compiled by its first call. Calls do not hold the GIL. The code is cached on disk where
    the disk allows it, as in :func:`~ste_lightning.kernels.jit.compiling.compiled`. Who calls must
    keep the tensors alive, and is trusted with their sizes.

    Args:
        arguments: ``BYTES``, ``FLOATS``, ``DOUBLES``, ``HALVES``, ``WORDS``, ``INTEGERS`` and
            ``SUMS`` for addresses of uint8, float32, float64, uint16, uint32, int64 and int32;
            ``SIZE``, ``FLOAT`` and ``FLAG`` for numbers.
        returns: ``SIZE`` for a function that returns an integer; nothing by default.
    """
    return functools.partial(CFunction, signature=returns(*arguments))


def on_demand(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[[], Callable[..., None]]]:
    """Decorator: as :func:`addressed`, for who calls often: calling what it returns, without
    arguments, returns the compiled function itself.
    """

    def delay(function: Callable[..., Any]) -> Callable[[], Callable[..., None]]:
        return functools.cache(lambda: addressed(*arguments)(function).compiled())

    return delay
