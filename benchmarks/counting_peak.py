"""The speed of counting differing bits from registers: a bound where nothing is looked up."""

from __future__ import annotations

import time

import numpy as np

from ste_lightning import kernels


def peak(seconds: float) -> float:
    """Return the speed of xor, population count and add from registers, in 10^9 operations/s."""
    import numba
    from llvmlite import ir
    from numba import types

    from ste_lightning.kernels.jit.compiling import emitted

    word = ir.IntType(32)
    lanes = 16 if kernels.default_format() == "words" else 8
    kind = ir.VectorType(word, lanes)

    @emitted
    def block(typing: object, seed: object, out: object) -> object:
        def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
            data = context.make_array(signature.args[1])(context, builder, args[1]).data
            function = ir.FunctionType(kind, [kind])
            name = f"llvm.ctpop.v{lanes}i32"
            count = builder.module.globals.get(name) or ir.Function(builder.module, function, name)
            place = builder.bitcast(data, kind.as_pointer())
            sums = [ir.Constant(kind, None)] * 8
            loaded = []
            for i in range(8):
                value = builder.load(builder.gep(place, [ir.Constant(ir.IntType(64), i)]))
                value.align = 4
                loaded.append(value)
            mask = ir.Constant(ir.VectorType(word, lanes), [0] * lanes)
            undefined = ir.Constant(kind, ir.Undefined)
            for step in range(8):
                seed = builder.xor(args[0], word(0x9E3779B1 * (step + 1) & 0xFFFFFFFF))
                splat = builder.shuffle_vector(
                    builder.insert_element(undefined, seed, word(0)), undefined, mask
                )
                for i in range(8):
                    mixed = builder.xor(loaded[i], splat)
                    sums[i] = builder.add(sums[i], builder.call(count, [mixed]))
            total = sums[0]
            for other in sums[1:]:
                total = builder.add(total, other)
            return builder.extract_element(total, word(0))

        return types.uint32(types.uint32, types.Array(types.uint32, 1, "C")), code

    @numba.njit
    def run(data, repeats):  # type: ignore[no-untyped-def]
        total = np.uint32(0)
        for i in range(repeats):
            total += block(np.uint32(i), data)
        return total

    data = np.arange(8 * lanes, dtype=np.uint32)
    run(data, 10)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        run(data, 20000)
        best = max(best, 20000 * 64 * 32 * lanes * 2 / (time.process_time() - start))
    return best / 1e9
