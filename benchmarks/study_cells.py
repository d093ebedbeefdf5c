"""How the cost of a study grows with its cells: seconds for cells that compute almost nothing.

    python benchmarks/study_cells.py --launcher ray --cells 100 1000 10000

What is measured is what a cell costs beside its simulation: sending it to a worker, its file, and
reading all files into one table. A first study without measurement starts the workers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from ste_lightning.theory.engine.chunks import cores
from ste_lightning.theory.studies.cells import Cell
from ste_lightning.theory.studies.runner import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launcher", choices=("local", "ray"), default="local")
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000])
    chosen = parser.parse_args()
    if chosen.launcher == "ray":
        import ray

        ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False)
    base = {"n": 4, "m": 1, "samples": 4, "steps": 2, "trials": 1}
    print("cells  seconds  ms per cell  ms per cell when all are stored")
    for count in [4 * cores(), *chosen.cells]:
        cells = [Cell({**base, "seed": seed}) for seed in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for _ in range(2):
                start = time.perf_counter()
                run(cells, Path(folder), launcher=chosen.launcher, show=False)
                times.append(time.perf_counter() - start)
        if count in chosen.cells:
            first, again = (1000 * seconds / count for seconds in times)
            print(f"{count:5}  {times[0]:7.1f}  {first:11.2f}  {again:.2f}", flush=True)


if __name__ == "__main__":
    main()
