"""The arrays that a record of :mod:`.site` names by address and length, in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ste_lightning.kernels.addressed import carray
from ste_lightning.kernels.compiling import compiled, emitted

__all__ = ["bytes_at", "floats_at", "integers_at", "words_at"]


@emitted
def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@compiled
def bytes_at(record, at):  # type: ignore[no-untyped-def]
    """Return the bytes whose address is entry ``at``."""
    return carray(_pointer(record[at]), (record[at + 1],), np.uint8)


@compiled
def words_at(record, at):  # type: ignore[no-untyped-def]
    """Return the int32 whose address is entry ``at``."""
    return carray(_pointer(record[at]), (record[at + 1],), np.int32)


@compiled
def integers_at(record, at):  # type: ignore[no-untyped-def]
    """Return the int64 whose address is entry ``at``."""
    return carray(_pointer(record[at]), (record[at + 1],), np.int64)


@compiled
def floats_at(record, at):  # type: ignore[no-untyped-def]
    """Return the float32 whose address is entry ``at``."""
    return carray(_pointer(record[at]), (record[at + 1],), np.float32)
