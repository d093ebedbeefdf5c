"""Arrays of one dimension in compiled code: at an address, of new memory, of another type.

numba compiles functions of its own for these, for every type it meets.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.np.arrayobj import populate_array

from ste_lightning.kernels.jit.compiling import emitted

__all__ = [
    "array_at",
    "array_of",
    "as_int8",
    "as_int16",
    "as_int32",
    "carray",
    "empty",
    "read_array",
    "zeros",
]

_INDEX = ir.IntType(64)
_CACHE_LINE = 64


def _array(
    context: Any, builder: Any, kind: Any, address: Any, count: Any, owner: Any, parent: Any = None
) -> Any:
    """Return an array of numba's type ``kind``; ``owner`` counts who needs its memory."""
    array = context.make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    populate_array(  # type: ignore[no-untyped-call]
        array,
        data=builder.bitcast(address, array.data.type),
        shape=[count],
        strides=[_INDEX(size)],
        itemsize=size,
        meminfo=owner,
        parent=parent,
    )
    return array._getvalue()


@emitted
def carray(typing: Any, address: Any, shape: Any) -> Any:
    """Return the array of ``shape[0]`` elements at a typed address."""
    kind = types.Array(address.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = builder.extract_value(args[1], 0)
        return _array(context, builder, kind, args[0], count, None)

    return kind(address, types.UniTuple(types.int64, 1)), code  # type: ignore[no-untyped-call]


def array_of(count: int) -> Any:
    """Return a function, for compiled code, from a typed address to an array of ``count``."""

    def at(typing: Any, address: Any) -> Any:
        kind = types.Array(address.dtype, 1, "C")

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _array(context, builder, kind, args[0], _INDEX(count), None)

        return kind(address), code

    return emitted(at)


def read_array(context: Any, builder: Any, kind: Any, record: Any, place: Any) -> Any:
    """Return the array of numba's type ``kind`` whose address and length a record has there.

    Args: ``record`` an LLVM pointer to integers of 64 bits.
    """
    found = builder.gep(record, [place])
    address, count = (builder.load(builder.gep(found, [_INDEX(n)])) for n in (0, 1))
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    return _array(context, builder, kind, pointer, count, None)


def array_at(dtype: Any) -> Any:
    """Return a function, for compiled code, of an array of integers and a place in it.

    It returns the array whose address and length are there.
    """
    kind = types.Array(dtype, 1, "C")

    def read(typing: Any, record: Any, place: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            return read_array(context, builder, kind, data, args[1])

        return kind(record, types.int64), code

    return emitted(read)


def _allocated(cleared: bool) -> Any:
    def allocate(typing: Any, count: Any, dtype: Any) -> Any:
        kind = types.Array(dtype.dtype, 1, "C")

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
            octets = builder.mul(args[0], _INDEX(size))
            owner = context.nrt.meminfo_alloc_aligned(builder, octets, _CACHE_LINE)
            data = context.nrt.meminfo_data(builder, owner)
            if cleared:
                cgutils.memset(builder, data, octets, 0)  # type: ignore[no-untyped-call]
            return _array(context, builder, kind, data, args[0], owner)

        return kind(types.int64, dtype), code

    return emitted(allocate)


empty, zeros = _allocated(cleared=False), _allocated(cleared=True)  # of a count and a dtype


def _viewed(dtype: Any) -> Any:
    """Return a function that returns a contiguous array's memory as elements of another type."""
    kind = types.Array(dtype, 1, "C")

    def view(typing: Any, array: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = context.make_array(signature.args[0])(context, builder, args[0])
            sizes = (context.get_abi_sizeof(context.get_data_type(k.dtype)) for k in (array, kind))
            before, after = (_INDEX(size) for size in sizes)
            count = builder.udiv(builder.mul(builder.extract_value(given.shape, 0), before), after)
            found = _array(context, builder, kind, given.data, count, given.meminfo, given.parent)
            return impl_ret_borrowed(context, builder, kind, found)  # type: ignore[no-untyped-call]

        return kind(array), code

    return emitted(view)


as_int8, as_int16, as_int32 = (_viewed(kind) for kind in (types.int8, types.int16, types.int32))
