"""Which micro-kernel suits the CPU that numba generates code for.

* ``words``: 32 channels x 32 bits, counted by VPOPCNTD (AVX-512 VPOPCNTDQ).
* ``lookup``: 64 channels x 8 bits, counted four bits at a time by VPSHUFB (AVX2).
* ``bytes``: 64 channels x 8 bits, counted by whatever LLVM has for bytes (Arm: CNT).

The code generator itself is asked, so that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are respected.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

import llvmlite.binding as llvm
from numba.core import config, registry

__all__ = [
    "FORMATS",
    "chosen_format",
    "cpu_name",
    "has_avx2",
    "has_tiles",
    "may_use_tiles",
    "vnni_bits",
]

FORMATS = ("lookup", "bytes", "words")

_PROBE = """
target triple = "{triple}"
define <{n} x i{bits}> @probe(<{n} x i{bits}> %x) {{
  %y = call <{n} x i{bits}> @llvm.ctpop.v{n}i{bits}(<{n} x i{bits}> %x)
  ret <{n} x i{bits}> %y
}}
declare <{n} x i{bits}> @llvm.ctpop.v{n}i{bits}(<{n} x i{bits}>)
"""

_DOT_PROBE = """
target triple = "{triple}"
define i32 @probe(<64 x i8> %x, <64 x i8> %w) {{
  %a = zext <64 x i8> %x to <64 x i32>
  %b = sext <64 x i8> %w to <64 x i32>
  %c = mul <64 x i32> %a, %b
  %d = call i32 @llvm.vector.reduce.add.v64i32(<64 x i32> %c)
  ret i32 %d
}}
declare i32 @llvm.vector.reduce.add.v64i32(<64 x i32>)
"""


def _counting(lanes: int, bits: int, cpu: str | None) -> str:
    """Return what the code generator makes of a population count of ``lanes`` x ``bits``."""
    return _assembly(_PROBE.format(triple=llvm.get_process_triple(), n=lanes, bits=bits), cpu)


def cpu_name() -> str:
    """Return the name of the processor that numba generates code for."""
    # As numba itself decides; typed here, since its configuration module is not.
    named: str | None = getattr(config, "CPU_NAME", None)
    return str(llvm.get_host_cpu_name() if named in (None, "", "host") else named)


def _assembly(code: str, cpu: str | None) -> str:
    """Return what the code generator makes of LLVM code, for a processor or numba's own."""
    # The registry's target sets LLVM up for this process.
    registry.cpu_target.target_context  # noqa: B018
    listed: str | None = getattr(config, "CPU_FEATURES", None)
    named = cpu is not None or bool(getattr(config, "CPU_NAME", None))
    features = "" if named else llvm.get_host_cpu_features().flatten()
    if cpu is None and listed is not None:
        features = listed
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=cpu_name() if cpu is None else cpu, features=features, opt=3
    )
    assembly: str = machine.emit_assembly(llvm.parse_assembly(code))
    return assembly


@functools.cache
def has_avx2(cpu: str | None = None) -> bool:
    """Return whether code may use AVX2's 256-bit byte shuffle, on a processor of that name."""
    code = _counting(32, 8, cpu)
    return ("vpshufb" in code and "%ymm" in code) or "vpopcntb" in code


@functools.cache
def chosen_format(cpu: str | None = None) -> str:
    """Return the format whose micro-kernel counts fastest on a processor of that name."""
    code = _counting(16, 32, cpu)
    if "vpopcntd" in code and "%zmm" in code:
        return "words"
    return "lookup" if has_avx2.__wrapped__(cpu) else "bytes"


@functools.cache
def vnni_bits(cpu: str | None = None) -> int:
    """Return the bits of the vectors that VPDPBUSD may take: 512, 256 or, without it, 0."""
    code = _assembly(_DOT_PROBE.format(triple=llvm.get_process_triple()), cpu)
    lines = [line for line in code.splitlines() if "vpdpbusd" in line]
    if not lines:
        return 0
    return 512 if "%zmm" in lines[0] else 256


_WITH_TILES = ("sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d")


@functools.cache
def has_tiles(cpu: str | None = None) -> bool:
    """Return whether code may use AMX's tiles, of bytes and of bfloat16, on a processor."""
    listed: str | None = getattr(config, "CPU_FEATURES", None)
    if cpu is None and listed is not None:
        return {"+amx-int8", "+amx-bf16"} <= set(listed.split(","))
    if cpu is not None or getattr(config, "CPU_NAME", None):
        return (cpu or cpu_name()) in _WITH_TILES
    host = llvm.get_host_cpu_features()
    return bool(host.get("amx-int8", False) and host.get("amx-bf16", False))


_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # ARCH_REQ_XCOMP_PERM, of Linux on x86-64


@functools.cache
def may_use_tiles() -> bool:
    """Ask the system once whether this process may use tile registers, which Linux has lazily."""
    if not has_tiles() or not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    granted: int = ctypes.CDLL(None, use_errno=True).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA)
    return granted == 0
