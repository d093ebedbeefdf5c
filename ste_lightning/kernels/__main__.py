"""``python -m ste_lightning.kernels``: which kernel multiplies what on this processor."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ste_lightning.kernels.dispatch import KERNELS, ROWS, Cpu, choose, cpu_named, host
from ste_lightning.kernels.layout.integer_codes import SIGNS, Codes

__all__ = ["main", "matrix"]


def _codes(bits: int) -> Codes:
    return SIGNS if bits == 1 else Codes(bits, 1, -(2 ** (bits - 1)))


def matrix(cpu: Cpu, rows: int = ROWS) -> str:
    """Return what is chosen for 1 to 8 bits of weights (lines) and inputs (columns), with costs."""
    lines = [
        f"{cpu.name}: counts by {cpu.counting or 'nothing'}, dot products of {cpu.dot_bits} bits, "
        f"{'tiles of bytes' if cpu.tiles else 'no tiles'}; {rows} rows"
    ]
    letters = {kernel.name: chr(ord("a") + i) for i, kernel in enumerate(KERNELS)}
    for operator in ("gemm", "depthwise"):
        lines += ["", f"{operator}    " + "".join(f"   A{a}   " for a in range(1, 9))]
        for w in range(1, 9):
            cells = []
            for a in range(1, 9):
                kernel = choose(operator, _codes(a), _codes(w), cpu, rows)
                cost = kernel.cost(_codes(a), _codes(w), cpu, rows)
                cells.append(f" {letters[kernel.name]} {cost:5.1f}")
            lines.append(f"W{w}" + " " * (len(operator) + 2) + "".join(cells))
    found = [choose("gradient", codes, codes, cpu, rows) for codes in (SIGNS, _codes(8))]
    one, more = (letters[kernel.name] for kernel in found)
    lines += ["", f"gradients in training: of one bit times one bit {one}, of others {more}"]
    lines += ["", *(f"{letters[k.name]}  {k.name:28} weights as {k.format}" for k in KERNELS)]
    return "\n".join([*lines, "", "Costs: 1 is one bit plane times one bit plane by popcount."])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the matrix."""
    parser = argparse.ArgumentParser(prog="python -m ste_lightning.kernels", description=__doc__)
    parser.add_argument("--cpu", help="a processor as LLVM names it, such as haswell or znver4")
    parser.add_argument("--rows", type=int, default=ROWS, help="samples, or output positions")
    given = parser.parse_args(arguments)
    print(matrix(host() if given.cpu is None else cpu_named(given.cpu), given.rows))


if __name__ == "__main__":
    main()
