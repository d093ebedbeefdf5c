"""Which micro-kernel suits the CPU that numba generates code for.

* ``words``: 32 channels x 32 bits, counted by VPOPCNTD (AVX-512 VPOPCNTDQ).
* ``lookup``: 64 channels x 8 bits, counted four bits at a time by VPSHUFB (AVX2).
* ``bytes``: 64 channels x 8 bits, counted by whatever LLVM has for bytes (Arm: CNT).

The code generator itself is asked, so that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are respected.
"""

from __future__ import annotations

import functools

import llvmlite.binding as llvm
from numba.core import config, registry

__all__ = ["FORMATS", "chosen_format", "has_avx2"]

FORMATS = ("lookup", "bytes", "words")

_PROBE = """
target triple = "{triple}"
define <{n} x i{bits}> @probe(<{n} x i{bits}> %x) {{
  %y = call <{n} x i{bits}> @llvm.ctpop.v{n}i{bits}(<{n} x i{bits}> %x)
  ret <{n} x i{bits}> %y
}}
declare <{n} x i{bits}> @llvm.ctpop.v{n}i{bits}(<{n} x i{bits}>)
"""


def _assembly(lanes: int, bits: int) -> str:
    """Return what the code generator makes of a population count of ``lanes`` x ``bits``."""
    # The registry's target sets LLVM up for this process.
    registry.cpu_target.target_context  # noqa: B018
    triple = llvm.get_process_triple()
    # As numba itself decides; typed here, since its configuration module is not.
    named: str | None = getattr(config, "CPU_NAME", None)
    listed: str | None = getattr(config, "CPU_FEATURES", None)
    cpu = llvm.get_host_cpu_name() if named in (None, "", "host") else str(named)
    features = "" if named else llvm.get_host_cpu_features().flatten()
    if listed is not None:
        features = listed
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3
    )
    module = llvm.parse_assembly(_PROBE.format(triple=triple, n=lanes, bits=bits))
    assembly: str = machine.emit_assembly(module)
    return assembly


@functools.cache
def has_avx2() -> bool:
    """Return whether generated code may use AVX2's 256-bit byte shuffle."""
    code = _assembly(32, 8)
    return ("vpshufb" in code and "%ymm" in code) or "vpopcntb" in code


@functools.cache
def chosen_format() -> str:
    """Return the format whose micro-kernel is the fastest on the target CPU."""
    if "vpopcntd" in _assembly(16, 32) and "%zmm" in _assembly(16, 32):
        return "words"
    return "lookup" if has_avx2.__wrapped__() else "bytes"
