"""The table of kernels: which one multiplies operands of some bits on a processor.

A product takes the cheapest row of :data:`KERNELS` that the processor has and that is exact. Costs
are relative: 1 is what the processor's popcount kernel takes for one bit plane of inputs times one
of weights. ``python -m ste_lightning.kernels`` prints what is chosen; ``STE_KERNEL=name`` forces a
row wherever it can be taken; the logger of this module says why at the level DEBUG.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.kernels.layout.int8_weights import steps_in_16_bits, stored
from ste_lightning.kernels.layout.integer_codes import Codes

__all__ = [
    "KERNELS",
    "Cpu",
    "Kernel",
    "best_format",
    "choose",
    "cpu_named",
    "default_format",
    "host",
]

_log = logging.getLogger(__name__)

ROWS = 16  # that products have, where nobody says
_FEW = 4  # channels and outputs of a group that lanes of outputs multiply fastest; only=depthwise
_WIDEST_STEP = 2**15  # a weight that a word of 16 bits does not hold


@dataclass(frozen=True)
class Cpu:
    """What a processor can do, as far as kernels differ.

    Attributes:
        name: of the processor, for messages.
        counting: the format of its popcount kernel: ``"words"`` (VPOPCNTD), ``"lookup"`` (VPSHUFB
            of AVX2), ``"bytes"`` (whatever counts bytes), or ``""`` without compiled code.
        dot_bits: of the vectors whose bytes one instruction multiplies and sums, 0 for none.
        tiles: whether it has registers that hold tiles of bytes (AMX), and the system lends them.
    """

    name: str
    counting: str
    dot_bits: int = 0
    tiles: bool = False


Cost = Callable[[Codes, Codes, Cpu, int], float | None]


@dataclass(frozen=True)
class Kernel:
    """A row of the table.

    Attributes:
        name: operator, operands and instruction.
        format: the layout of its weights, see :mod:`.weight_tiles`.
        operator: ``"gemm"``, linear layers and convolutions; ``"depthwise"``, convolutions whose
            groups have few channels; ``"gradient"``, floats times what was quantized.
        cost: of inputs, weights, a processor and a number of rows; ``None`` where it cannot be
            taken.
        benchmark: arguments of ``benchmarks/packed_inference.py`` that set the cost; of a
            gradient, of ``benchmarks/training_step.py``.
    """

    name: str
    format: str
    operator: str
    cost: Cost
    benchmark: str


def _planes(format: str) -> Cost:
    """Return the cost of counting: a pass for every pair of bit planes."""

    def cost(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
        return float(inputs.bits * weights.bits) if cpu.counting == format else None

    return cost


def _lut_2x1(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    """A pass for every weight bit and two input bits."""
    fits = cpu.counting == "lookup" and weights.bits <= 2 and inputs.bits > 1
    return float(weights.bits * -(-inputs.bits // 2)) if fits else None


def _dot(bits: int) -> Cost:
    """Return the cost of weights that are stored at ``bits`` bits: the fewest are read fastest."""

    def cost(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
        if not cpu.dot_bits or weights.bits > bits:
            return None
        by_words = 5.3 if cpu.counting == "words" else 1.0  # peaks: 2450 against 460 GOPS
        return by_words * 512 / cpu.dot_bits * (1 + bits / 1000)

    return cost


def _tiles(bits: int) -> Cost:
    """Return the cost of tile registers: few rows wait for the weights, which are read once."""

    def cost(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
        by_vectors = _dot(bits)(inputs, weights, cpu, rows)
        if not cpu.tiles or by_vectors is None:
            return None
        return min(by_vectors, _TILED + _TILED_ROW / max(rows, 1) * (1 + bits / 100))

    return cost


_TILED, _TILED_ROW = 1.01, 28.0  # 2048 x 2048: 1630 GOPS of 128 rows, 910 of 32, 545 of 16
_MULTIPLIED = {"words": 5.9, "lookup": 4.0, "bytes": 3.9}  # VPMADDUBSW, or what LLVM has for it


def _int8(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    """Pairs of products in 16 bits, where at least two of them fit."""
    if steps_in_16_bits(inputs, stored(weights)) < 2:
        return None
    return _int16(inputs, weights, cpu, rows, 1.0)


def _int16(inputs: Codes, weights: Codes, cpu: Cpu, rows: int, times: float = 2.0) -> float | None:
    # Operands of one bit are packed while they are read; as bytes they would be copied first.
    one_bit = min(inputs.bits, weights.bits) == 1
    if not cpu.counting or (one_bit and cpu.counting != "lookup"):
        return None
    return times * _MULTIPLIED[cpu.counting]


def _few_channels(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    """Lanes of outputs, of 16 bits."""
    ends = (weights.offset, weights.offset + weights.step * (2**weights.bits - 1))
    fits = max(abs(end) for end in ends) < _WIDEST_STEP
    return 1.0 if cpu.counting and fits else None


_FLOAT = {"words": 21.3, "lookup": 9.0, "bytes": 9.0, "": 1.0}  # the peaks' ratio, 2450 / 115 GOPS


def _float(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    return _FLOAT[cpu.counting]


def _float_depthwise(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    return 1.2


def _float_tiles(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    """Three products of bfloat16 numbers: 256 x 1024 x 1024 in 1.6 ms, where float32 takes 3.5."""
    return 0.45 * _FLOAT[cpu.counting] if cpu.tiles else None


def _float_sums(inputs: Codes, weights: Codes, cpu: Cpu, rows: int) -> float | None:
    """Tables of sums of floats, 256 bits wide: AVX-512's float32 takes 0.6 of their time."""
    bits = inputs.bits == weights.bits == 1 and cpu.counting in ("lookup", "bytes")
    return 0.6 * _FLOAT[cpu.counting] if bits else None


KERNELS: tuple[Kernel, ...] = (
    Kernel("gemm_bits_popcount_avx512", "words", "gemm", _planes("words"), "--only linear,conv"),
    Kernel("gemm_bits_lut_avx2", "lookup", "gemm", _planes("lookup"), "--only linear,conv"),
    Kernel("gemm_bits_popcount_bytes", "bytes", "gemm", _planes("bytes"), "--only linear,conv"),
    Kernel("gemm_a2w1_lut_avx2", "lookup_2x1", "gemm", _lut_2x1, "--only bits"),
    Kernel("gemm_a8w1_vnni", "int1", "gemm", _dot(1), "--only bits"),
    Kernel("gemm_a8w2_vnni", "int2", "gemm", _dot(2), "--only bits"),
    Kernel("gemm_a8w4_vnni", "int4", "gemm", _dot(4), "--only bits"),
    Kernel("gemm_a8w8_vnni", "int8", "gemm", _dot(8), "--only bits"),
    Kernel("gemm_a8w1_amx", "int1_tiles", "gemm", _tiles(1), "--only bits,tokens"),
    Kernel("gemm_a8w2_amx", "int2_tiles", "gemm", _tiles(2), "--only bits,tokens"),
    Kernel("gemm_a8w4_amx", "int4_tiles", "gemm", _tiles(4), "--only bits,tokens"),
    Kernel("gemm_a8w8_amx", "int8_tiles", "gemm", _tiles(8), "--only bits,tokens"),
    Kernel("gemm_a8w8_maddubs", "digits", "gemm", _int8, "--only bits"),
    Kernel("gemm_a16w16_madd", "wide_digits", "gemm", _int16, "--only bits"),
    Kernel("gemm_float_torch", "torch", "gemm", _float, "--only linear"),
    Kernel("depthwise_words", "depthwise", "depthwise", _few_channels, "--only depthwise"),
    Kernel("depthwise_float_torch", "torch", "depthwise", _float_depthwise, "--only depthwise"),
    Kernel("gradient_float_amx", "float_tiles", "gradient", _float_tiles, "--only maps"),
    Kernel("gradient_bits_lut", "float_sums", "gradient", _float_sums, "--compile --only cnn"),
    Kernel("gradient_float_torch", "torch", "gradient", _float, "--only maps"),
)


def choose(
    operator: str, inputs: Codes, weights: Codes, cpu: Cpu | None = None, rows: int = ROWS
) -> Kernel:
    """Return the cheapest kernel for operands of these codes; the first of equal ones.

    Args:
        operator: ``"gemm"`` or ``"depthwise"``.
        inputs, weights: the operands.
        cpu: the processor; default the one that code is generated for.
        rows: of inputs that are multiplied together: samples, or output positions.

    Raises:
        ConfigurationError: if ``STE_KERNEL`` is no kernel's name.
    """
    cpu = host() if cpu is None else cpu
    costs = {
        kernel: cost
        for kernel in KERNELS
        if kernel.operator == operator
        and (cost := kernel.cost(inputs, weights, cpu, rows)) is not None
    }
    forced = os.environ.get("STE_KERNEL", "")
    if forced:
        names = [kernel.name for kernel in KERNELS]
        require(forced in names, "STE_KERNEL", forced, f"use one of {', '.join(names)}")
        for kernel in costs:
            if kernel.name == forced:
                _log.debug("%s: forced by STE_KERNEL", forced)
                return kernel
        _log.debug("%s cannot take this %s: the table decides", forced, operator)
    if not costs:
        raise ConfigurationError(f"operator={operator!r} has no kernel: use 'gemm' or 'depthwise'.")
    best = min(costs, key=lambda kernel: costs[kernel])
    if _log.isEnabledFor(logging.DEBUG):
        others = ", ".join(f"{k.name} {c:.1f}" for k, c in costs.items() if k is not best)
        what = f"W{weights.bits}A{inputs.bits} {operator} on {cpu.name}"
        _log.debug("%s: %s, cost %.1f (%s)", what, best.name, costs[best], others)
    return best


@functools.cache
def host() -> Cpu:
    """Return the processor that code is generated for."""
    if importlib.util.find_spec("numba") is None:
        return Cpu("any, without numba", "")
    from ste_lightning.kernels.jit.cpu_features import (
        chosen_format,
        cpu_name,
        may_use_tiles,
        vnni_bits,
    )

    return Cpu(cpu_name(), chosen_format(), vnni_bits(), may_use_tiles())


def cpu_named(name: str) -> Cpu:
    """Return a processor by the name that LLVM (and ``NUMBA_CPU_NAME``) has for it."""
    from ste_lightning.kernels.jit.cpu_features import chosen_format, has_tiles, vnni_bits

    return Cpu(name, chosen_format(name), vnni_bits(name), has_tiles(name))


def default_format() -> str:
    """Return the format of the popcount kernel; ``"torch"`` where numba is missing."""
    return host().counting or "torch"


def best_format(
    inputs: Codes,
    weights: Codes,
    groups: int = 1,
    channels: int = 0,
    outputs: int = 0,
    rows: int = ROWS,
) -> str:
    """Return the format of the weights for the kernel that :func:`choose` finds.

    Args:
        inputs, weights: the operands.
        groups: of a convolution, with ``channels`` and ``outputs`` in each.
        rows: that are expected, see :func:`choose`.
    """
    counting, cpu = default_format(), host()
    if counting != (cpu.counting or "torch"):
        cpu = Cpu(f"{counting} only", "" if counting == "torch" else counting)
    few = groups > 1 and channels <= _FEW and outputs <= _FEW
    return choose("depthwise" if few else "gemm", inputs, weights, cpu, rows).format
