"""A site's record as compiled code reads it: numbers, and arrays by their address and length.

All functions are for compiled code.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ste_lightning.kernels.jit.arrays import array_at, array_of, read_array
from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.layout.call_record import ARRAYS, RECORD

__all__ = ["bytes_of", "extra_of", "floats_of", "integers_of", "opened", "record_at", "words_of"]

record_at = array_of(RECORD)
opened = array_of(1 << 60)  # of a length that nobody reads
bytes_of, words_of = array_at(types.uint8), array_at(types.int32)
integers_of, floats_of = array_at(types.int64), array_at(types.float32)


@emitted
def extra_of(typing: Any, record: Any, out: Any) -> Any:
    """Return what is added to sums that become floats, or compared with those that become bits.

    Its type follows that of the results ``out``.
    """
    kind = types.int32 if isinstance(out.dtype, types.Integer) else types.float32
    array = types.Array(kind, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = ir.Constant(ir.IntType(64), ARRAYS["extra"])
        return read_array(context, builder, array, data, place)

    return array(record, out), code
