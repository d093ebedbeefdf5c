"""The micro-kernel of the format ``lookup``: pairs of rows against 64 channels.

Four bits of row a and four of row b select one of 256 tables; its 16 entries hold, for every
four weight bits w, popcount(a xor w) + 16 popcount(b xor w). One VPSHUFB thus looks up two rows
times four bits times 32 channels, half of what a table per row needs. Three look-ups are added
before the halves could overflow: t. Then ``both += t`` (modulo 256) and ``upper += t >> 4`` are
all that is kept, since upper = sum of b's counts and both = sum of a's + 16 upper. After 30 bytes
(240 bits) these bytes go to 16-bit sums.

The steps are written as assembly: the order of instructions that LLVM's scheduler chooses needs
more registers than there are, and runs at half the speed. LLVM assembles them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.kernels.jit.llvm import load

__all__ = [
    "NOTHING",
    "STEP",
    "U8",
    "U16",
    "add_to_sums",
    "expand_16",
    "pairs_1",
    "pairs_2",
    "pairs_2_split",
    "pointer",
    "split_64",
]

STEP = 3  # bytes of a row per step: six look-ups, added three at a time
_CHUNK = 10  # steps whose counts, at most 240, fit into a byte
_VECTORS = 2  # of 32 channels

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _WORDS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16)
_MASK = 4096  # after the tables come 32 bytes of 15
NOTHING = 4128  # and a table of zeros, for rows that end within a step

llvm.initialize_native_asmparser()


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _all(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _tables(module: Any) -> Any:
    """Return a pointer to the tables: entry w of table a + 16 b at 16 (a + 16 b) + w."""
    name = "ste_lightning_pair_counts"
    if name not in module.globals:
        nibbles = range(16)
        counts = (
            [
                (a ^ w).bit_count() + 16 * (b ^ w).bit_count()
                for b in nibbles
                for a in nibbles
                for w in nibbles
            ]
            + [15] * 32
            + [0] * 16
        )
        kind = ir.ArrayType(_I8, len(counts))
        table = ir.GlobalVariable(module, kind, name)
        table.linkage, table.global_constant, table.align = "internal", True, 64
        table.initializer = ir.Constant(kind, counts)
    return module.globals[name].bitcast(_I8.as_pointer())


class _Step:
    """One step as assembly, for ``pairs`` pairs of rows.

    Operands: the sums ``both`` and ``upper`` per pair and vector (read and written), scratch
    registers, then the pointers to weights, tables and each pair's indices.
    """

    def __init__(self, pairs: int, split: bool) -> None:
        self.pairs, self.split = pairs, split
        self.cells = 2 * pairs * _VECTORS
        scratch = pairs * _VECTORS + 2 + (1 if split else _VECTORS)
        self.t = [
            [f"${self.cells + p * _VECTORS + v}" for v in range(_VECTORS)] for p in range(pairs)
        ]
        rest = [f"${self.cells + pairs * _VECTORS + i}" for i in range(scratch)]
        self.table, self.found, *self.w = rest[: scratch - pairs * _VECTORS]
        self.vectors = self.cells + scratch
        self.offset = f"${{{self.vectors}:k}}"
        self.wide = f"${self.vectors}"
        first = self.vectors + 1 + self.cells
        self.weights, self.tables = f"${first}", f"${first + 1}"
        self.indices = [f"${first + 2 + p}" for p in range(pairs)]
        self.lines: list[str] = []

    def constraints(self) -> str:
        """Return the operands' constraints."""
        outputs = ["=&x"] * self.vectors + ["=&r"]
        inputs = [str(i) for i in range(self.cells)] + ["r"] * (2 + self.pairs)
        return ",".join([*outputs, *inputs, "~{dirflag}", "~{fpsr}", "~{flags}"])

    def text(self) -> str:
        """Return the instructions."""
        add = self.lines.append
        if self.split:
            add(f"vmovdqa {_MASK}({self.tables}), {self.w[0]}")
        for third in range(2):
            if self.split:
                for p in range(self.pairs):
                    for k in range(3 * third, 3 * third + 3):
                        self._look_up(
                            p, k, [f"{64 * k + 32 * v}({self.weights})" for v in range(2)]
                        )
                    self._keep(p, self.w[0])
                continue
            for k in range(3 * third, 3 * third + 3):
                for v in range(_VECTORS):
                    add(f"vmovdqu {64 * (k // 2) + 32 * v}({self.weights}), {self.w[v]}")
                    if k % 2:
                        add(f"vpsrlw $$4, {self.w[v]}, {self.w[v]}")
                    add(f"vpand {_MASK}({self.tables}), {self.w[v]}, {self.w[v]}")
                for p in range(self.pairs):
                    self._look_up(p, k, self.w)
            for p in range(self.pairs):
                self._keep(p, f"{_MASK}({self.tables})")
        return "\n".join(self.lines)

    def _look_up(self, p: int, k: int, weights: list[str]) -> None:
        add, t = self.lines.append, self.t[p]
        add(f"movzwl {2 * k}({self.indices[p]}), {self.offset}")
        add(f"vbroadcasti128 ({self.tables},{self.wide}), {self.table}")
        for v in range(_VECTORS):
            if k % 3 == 0:
                add(f"vpshufb {weights[v]}, {self.table}, {t[v]}")
            else:
                target = self.table if v == _VECTORS - 1 else self.found
                add(f"vpshufb {weights[v]}, {self.table}, {target}")
                add(f"vpaddb {target}, {t[v]}, {t[v]}")

    def _keep(self, p: int, mask: str) -> None:
        add = self.lines.append
        for v in range(_VECTORS):
            t, both = self.t[p][v], p * _VECTORS + v
            upper = both + self.pairs * _VECTORS
            add(f"vpaddb {t}, ${both}, ${both}")
            add(f"vpsrlw $$4, {t}, {t}")
            add(f"vpand {mask}, {t}, {t}")
            add(f"vpaddb {t}, ${upper}, ${upper}")


def add_to_sums(b: Any, sums: Any, first: int, counts: Any) -> None:
    """Add 32 byte counts to the 16-bit sums at ``first``: even lanes, then odd ones."""
    pairs = b.bitcast(counts, _WORDS)
    even = b.and_(pairs, _all(_WORDS, 255))
    odd = b.lshr(pairs, _all(_WORDS, 8))
    for part, value in enumerate((even, odd)):
        place = b.bitcast(b.gep(sums, [_index(first + 16 * part)]), _WORDS.as_pointer())
        old = b.load(place)
        old.align = 2
        b.store(b.add(old, value), place).align = 2


def _pairs(pairs: int, split: bool) -> Callable[..., Any]:
    """Return the micro-kernel for ``pairs`` pairs of rows.

    It is ``f(weights, weights_at, indices, at, stride, steps, sums, sums_at)`` and adds to
    ``sums[sums_at:]``, 64 uint16 per row. ``weights`` are a panel's bytes or, if ``split``, its
    four-bit halves in a byte each; ``indices`` are those of :func:`expand_16`, ``stride`` from
    one pair's to the next. Where the indices are NOTHING, weights may be anything, but
    must be readable.
    """
    step = _Step(pairs, split)
    text, constraints = step.text(), step.constraints()
    unit = STEP * 32 * _VECTORS * (2 if split else 1)

    def emit(b: Any, weights: Any, indices: list[Any], steps: Any, sums: Any) -> None:
        tables = _tables(b.module)
        result = ir.LiteralStructType([_BYTES] * step.vectors + [_I64])
        operands = [_BYTES] * step.cells + [_I8.as_pointer()] * 2 + [_I16.as_pointer()] * pairs
        assembly = ir.InlineAsm(ir.FunctionType(result, operands), text, constraints, True)
        zero = ir.Constant(_BYTES, None)
        cells = [cgutils.alloca_once(b, _BYTES) for _ in range(step.cells)]  # type: ignore[no-untyped-call]
        with cgutils.for_range_slice(b, _index(0), steps, _index(_CHUNK), inc=True) as (start, _):
            left = b.sub(steps, start)
            size = b.select(b.icmp_signed("<", left, _index(_CHUNK)), left, _index(_CHUNK))
            for cell in cells:
                b.store(zero, cell)
            with cgutils.for_range(b, size) as loop:
                k = b.add(start, loop.index)
                at = [b.gep(weights, [b.mul(k, _index(unit))]), tables]
                at += [b.gep(row, [b.mul(k, _index(2 * STEP))]) for row in indices]
                found = b.call(assembly, [*(b.load(cell) for cell in cells), *at])
                for i, cell in enumerate(cells):
                    b.store(b.extract_value(found, i), cell)
            for p in range(pairs):
                for v in range(_VECTORS):
                    both, upper = (
                        b.load(cells[half * pairs * _VECTORS + p * _VECTORS + v])
                        for half in range(2)
                    )
                    shifted = b.bitcast(b.shl(upper, _all(_BYTES, 4)), _BYTES)
                    add_to_sums(b, sums, 128 * p + 32 * v, b.sub(both, shifted))
                    add_to_sums(b, sums, 128 * p + 64 + 32 * v, upper)

    def kernel(
        typing: Any,
        weights: Any,
        weights_at: Any,
        indices: Any,
        at: Any,
        stride: Any,
        steps: Any,
        sums: Any,
        sums_at: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if has_avx2():  # never called without, and the assembler would refuse it
                first = pointer(context, builder, signature, args, 2, 3)
                rows = [builder.gep(first, [builder.mul(args[4], _index(p))]) for p in range(pairs)]
                emit(
                    builder,
                    pointer(context, builder, signature, args, 0, 1),
                    rows,
                    args[5],
                    pointer(context, builder, signature, args, 6, 7),
                )
            return context.get_dummy_value()

        index = types.int64
        return types.none(U8, index, U16, index, index, index, U16, index), code

    return emitted(kernel)


U8, U16 = types.Array(types.uint8, 1, "C"), types.Array(types.uint16, 1, "C")


def pointer(context: Any, builder: Any, signature: Any, args: Any, array: int, start: int) -> Any:
    """Return a pointer to the element of one argument that another one names."""
    data = context.make_array(signature.args[array])(context, builder, args[array]).data
    return builder.gep(data, [args[start]])


pairs_1, pairs_2 = _pairs(1, split=False), _pairs(2, split=False)
pairs_2_split = _pairs(2, split=True)


@emitted
def split_64(typing: Any, panel: Any, at: Any, out: Any, to: Any) -> Any:
    """Write the lower and the upper halves of 64 bytes to ``out[to:]``, 64 bytes each."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = pointer(context, builder, signature, args, 0, 1)
        target = pointer(context, builder, signature, args, 2, 3)
        for v in range(_VECTORS):
            value = load(builder, builder.gep(source, [_index(32 * v)]), _BYTES)
            halves = (builder.and_(value, _all(_BYTES, 15)), builder.lshr(value, _all(_BYTES, 4)))
            for half, part in enumerate(halves):
                place = builder.gep(target, [_index(64 * half + 32 * v)])
                builder.store(part, builder.bitcast(place, _BYTES.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.none(U8, types.int64, U8, types.int64), code


@emitted
def expand_16(typing: Any, bits: Any, a: Any, b: Any, out: Any, to: Any) -> Any:
    """Write the table offsets of 16 bytes of bits of rows at ``a`` and ``b``: 32 uint16."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half, word = ir.VectorType(_I8, 16), ir.VectorType(_I16, 32)
        first, second = (
            load(builder, pointer(context, builder, signature, args, 0, row), half)
            for row in (1, 2)
        )
        low, high = _all(half, 15), _all(half, 240)
        four = _all(half, 4)
        lower = builder.or_(builder.and_(first, low), builder.shl(second, four))
        upper = builder.or_(builder.lshr(first, four), builder.and_(second, high))
        lanes = [lane for i in range(16) for lane in (i, 16 + i)]
        mask = ir.Constant(ir.VectorType(_I32, 32), lanes)
        mixed = builder.zext(builder.shuffle_vector(lower, upper, mask), word)
        place = pointer(context, builder, signature, args, 3, 4)
        value = builder.shl(mixed, _all(word, 4))
        builder.store(value, builder.bitcast(place, word.as_pointer())).align = 2
        return context.get_dummy_value()

    index = types.int64
    return types.none(U8, index, index, U16, index), code
