"""A site's record as compiled code reads it: numbers, and arrays by their address and length."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from ste_lightning.kernels.jit.c_functions import carray
from ste_lightning.kernels.jit.compiling import compiled, emitted
from ste_lightning.kernels.layout.call_record import ARRAYS, RECORD

__all__ = ["bytes_of", "extra_of", "floats_of", "integers_of", "opened", "record_at", "words_of"]

_ANY = 1 << 60  # the length of an array whose length nobody reads
_EXTRA = ARRAYS["extra"]


@emitted
def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@compiled
def record_at(address):  # type: ignore[no-untyped-def]
    """Return the record at an address."""
    return carray(address, (RECORD,))


@compiled
def opened(address):  # type: ignore[no-untyped-def]
    """Return the array at an address, of a length that nobody asks for."""
    return carray(address, (_ANY,))


@compiled
def bytes_of(record, at):  # type: ignore[no-untyped-def]
    """Return an array of uint8, named by its place in the record."""
    return carray(_pointer(record[at]), (record[at + 1],), np.uint8)


@compiled
def words_of(record, at):  # type: ignore[no-untyped-def]
    """Return an array of int32."""
    return carray(_pointer(record[at]), (record[at + 1],), np.int32)


@compiled
def integers_of(record, at):  # type: ignore[no-untyped-def]
    """Return an array of int64."""
    return carray(_pointer(record[at]), (record[at + 1],), np.int64)


@compiled
def floats_of(record, at):  # type: ignore[no-untyped-def]
    """Return an array of float32."""
    return carray(_pointer(record[at]), (record[at + 1],), np.float32)


def extra_of(record: Any, out: Any) -> Any:
    """Return what is added to sums that become floats, or compared with those that become bits.

    In compiled code, by the type of the results ``out``.
    """
    raise NotImplementedError("extra_of is for compiled code")


@overload(extra_of)
def _by_results(record, out):  # type: ignore[no-untyped-def]
    if isinstance(out.dtype, types.Integer):
        return lambda record, out: words_of(record, _EXTRA)
    return lambda record, out: floats_of(record, _EXTRA)
