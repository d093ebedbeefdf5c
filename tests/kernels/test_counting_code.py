"""The micro-kernel of VPOPCNTD: its code is looked at, since few machines can run it."""

import os
import re
import subprocess
import sys

import pytest

from ste_lightning.kernels import default_format

CODE = """
import numba
from numba import types
from ste_lightning.kernels.jit.cpu_features import chosen_format
from ste_lightning.kernels.ukernels.popcount import tile
assert chosen_format() == "words"
tile_8 = tile("words", 8)
bytes_, index, sums = types.uint8[::1], types.int64, types.int32[::1]

@numba.njit(types.void(bytes_, index, bytes_, index, index, index, sums), error_model="numpy")
def count(panels, panel, bits, row, stride, units, sums):
    tile_8(panels, panel, bits, row, stride, units, sums)

(text,) = count.inspect_asm().values()
print(text)
"""


@pytest.mark.skipif(default_format() == "torch", reason="numba is missing")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="is about x86-64")
def test_eight_rows_and_two_registers_of_channels_are_counted_without_spills(tmp_path):
    named = {
        "NUMBA_CPU_NAME": "znver4",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    child = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **named},
        capture_output=True,
        text=True,
        check=False,
    )
    if "not a recognized processor" in child.stderr:  # llvmlite 0.44
        pytest.skip("this LLVM does not know the processor")
    assert child.returncode == 0, child.stderr[-3000:]
    blocks = re.split(r"^\.LBB\w+:", child.stdout, flags=re.MULTILINE)
    (loop,) = (block for block in blocks if "vpopcntd" in block)
    loop = loop[: re.search(r"^\s+jne\s.*$", loop, re.MULTILINE).end()]
    counted = re.findall(r"^\s+(\w+)\s.*%zmm", loop, re.MULTILINE)
    for instruction in ("vpxord", "vpopcntd", "vpaddd"):
        assert counted.count(instruction) == 16
    assert "%rsp" not in loop  # nothing is kept in memory
    assert len(re.findall(r"^\s+[a-z]", loop, re.MULTILINE)) <= 72
