"""The plain vector code is code for 64-bit Arm too: it is compiled for one, here, and looked at."""

import os
import re
import subprocess
import sys

import pytest

from ste_lightning.kernels import default_format

# The compiler of this process is told to use nothing that only some processors have; what it
# makes of the kernels before it chooses instructions is then given to the one for Arm.
CODE = """
import re, torch
from ste_lightning.kernels import SIGNS, Codes, default_format, linear, prepare
assert default_format() == "bytes"
codes = torch.randint(0, 2, (70, 1, 300), dtype=torch.uint8)
linear(torch.randn(500, 300), prepare(codes, SIGNS, SIGNS, format="bytes"))
from ste_lightning.kernels.gemm import popcount as native
import llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple("aarch64-linux-gnu").create_target_machine(cpu="generic", opt=3)
(text,) = native.multiply.inspect_llvm().values()
text = re.sub(r'target (triple|datalayout) = ".*"', "", text)
text = re.sub(r'"(target-cpu|target-features|probe-stack)"="[^"]*"', "", text)
# Numba's counting of references, for which LLVM has put an instruction of x86.
text = re.sub(r"(tail )?call i8 @llvm.x86.atomic.sub.cc.i64\\(.*\\)", "add i8 0, 0", text)
module = llvm.parse_assembly(text)
module.triple, module.data_layout = "aarch64-linux-gnu", str(machine.target_data)
print(machine.emit_assembly(module))
"""


@pytest.mark.skipif(default_format() == "torch", reason="numba is missing")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names x86-64 as what to start from")
def test_bits_are_counted_by_arms_vector_instruction(tmp_path):
    plain = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    instructions = re.findall(r"^\s+(\w+)\s+v\d+\.16b", child.stdout, re.MULTILINE)
    assert instructions.count("cnt") >= 8  # rows x vectors of a tile
    assert "eor" in instructions
