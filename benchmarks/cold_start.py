"""What the first training step costs where no machine code has been kept: processor seconds.

    python benchmarks/cold_start.py [--cases linear,three] [--functions]

Every row is a process of its own, once with an empty folder for machine code and once with what the
first run left there. The time runs from after ``import torch`` to the end of the first step. The
layers: 256 -> 256 and 64 rows, large enough for every compiled path; three kinds are a binary
linear layer, a binary convolution and a linear layer of four bits. ``--functions`` lists what was
compiled, the slowest first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

STEP = """
import time
import torch
torch.set_num_threads(1)
start = time.process_time()
from torch import nn
from ste_lightning.layers import QuantConv2d, QuantLinear
four = {"map": "lsq", "bits": 4}
cases = {
    "linear": [(QuantLinear(256, 256), (256, 256))],
    "three": [
        (QuantLinear(256, 256), (256, 256)),
        (QuantConv2d(64, 64, 3, padding=1), (8, 64, 16, 16)),
        (QuantLinear(256, 256, weight_quantizer=four, input_quantizer=four), (256, 256)),
    ],
}
for layer, shape in cases[CASE]:
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(2):
        layer(torch.randn(shape, requires_grad=True)).square().mean().backward()
    optimizer.step()
print("seconds", time.process_time() - start)
if FUNCTIONS:
    for name, seconds in sorted(compiled.items(), key=lambda pair: -pair[1])[:25]:
        print(f"{seconds:8.2f}  {name}")
"""
COUNTED = """
import time
from numba.core import compiler
compiled = {}
run = compiler.CompilerBase._compile_core
def counting(self):
    start = time.process_time()
    try:
        return run(self)
    finally:
        name = self.state.func_id.func_qualname
        compiled[name] = compiled.get(name, 0) + time.process_time() - start
compiler.CompilerBase._compile_core = counting
"""


def first_step(case: str, folder: str, functions: bool) -> str:
    """Return what a fresh process prints."""
    code = STEP.replace("CASE", repr(case)).replace("FUNCTIONS", repr(functions))
    command = [sys.executable, "-c", (COUNTED if functions else "") + code]
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="linear,three")
    parser.add_argument("--functions", action="store_true")
    arguments = parser.parse_args()
    for case in arguments.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            for kept in ("nothing kept", "kept"):
                print(case, kept, first_step(case, folder, arguments.functions))


if __name__ == "__main__":
    main()
