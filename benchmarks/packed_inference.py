"""Speed of packed products against float32 and int8, on one thread unless said otherwise.

    python benchmarks/packed_inference.py [--quick] [--threads N]
    python benchmarks/packed_inference.py --only linear,conv,between,bits,depthwise,tokens
    python benchmarks/packed_inference.py --only weights,network,codes,families,small,scaling
    python benchmarks/packed_inference.py --rows "batch 16;56x56"

``--only`` takes sections, ``--rows`` parts of the names of rows, separated by semicolons.

Inputs and outputs are float32, packing (or quantizing) the activations is inside the timed
region, preparing the weights is not. The rows "bits in, bits out" are the exception: what a layer
costs inside a network, from packed bits to the packed bits that the next layer reads, thresholds
and padding included, beside the same others, which read and write floats (or bytes). The rows
"codes" are networks of several bits; beside them stand the same packed layers with floats between
them. Candidates of a row take turns in one process, each with one call that is not timed before
those that are; the table gives medians of CPU time and, for the ratios, the median of the ratios of
single rounds. Counting by looking up can exceed the
peak of xor, population count and add where the processor has no instruction for the second.
onnxruntime joins where it is installed. So does larq-compute-engine, beside single linear layers
(as convolutions of 1x1) and convolutions, with its indirect kernel:

    pip install larq-compute-engine tensorflow "numpy<2"  # constraints.txt pins a later numpy

Its optimised kernels are Arm's. On x86 it falls back on reference kernels, which are, in its own
words, "not optimized for speed in any way": it is neither "best float32" nor "best int8", and its
times on x86 say nothing of it on Arm.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from counting_peak import peak
from packed_families import family_rows, small_rows
from packed_layers import (
    between_rows,
    bit_rows,
    conv_rows,
    depthwise_rows,
    linear_rows,
    token_rows,
    weight_only_rows,
)
from packed_networks import code_rows, network_rows
from packed_timing import FLOAT, OURS, Call, Table

from ste_lightning import kernels
from ste_lightning.kernels import SIGNS


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scaling(table: Table) -> None:
    """Print how much faster two threads are than one, in wall time, taking turns.

    torch's float product beside ours tells what the two processors give: they may be two threads
    of one core, or busy with something else.
    """
    size, rows, threads = 4096, 256, torch.get_num_threads()
    codes = torch.randint(0, 2, (size, 1, size), dtype=torch.uint8)
    w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
    x, weight = torch.randn(rows, size), torch.randn(size, size)
    calls: dict[str, Call] = {
        OURS: lambda: kernels.linear(x, w),
        FLOAT: lambda: F.linear(x, weight),
    }
    times: dict[tuple[str, int], list[float]] = {(n, k): [] for n in calls for k in (1, 2)}
    end = time.perf_counter() + 2 * table.seconds
    while time.perf_counter() < end or len(times[OURS, 1]) < 5:
        for (name, count), found in times.items():
            torch.set_num_threads(count)
            calls[name]()
            start = time.perf_counter()
            calls[name]()
            found.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    print(f"\nlinear {size}, batch {rows}, two threads against one ({_processors()} processors):")
    for name in calls:
        one, two = times[name, 1], times[name, 2]
        median = statistics.median(a / b for a, b in zip(one, two, strict=True))
        print(f"  {name} {median:.2f}x, shortest times {min(one) / min(two):.2f}x")


SECTIONS = {
    "linear": linear_rows,
    "conv": conv_rows,
    "between": between_rows,
    "bits": bit_rows,
    "depthwise": depthwise_rows,
    "tokens": token_rows,
    "weights": weight_only_rows,
    "network": network_rows,
    "codes": code_rows,
    "families": family_rows,
    "small": small_rows,
    "scaling": scaling,
}


@torch.no_grad()
def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--rows", default="")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    seconds = 0.3 if given.quick else 2.0
    top = peak(seconds)
    print(
        f"{platform.machine()}, format {kernels.default_format()!r}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s); xor + population count + add from registers: "
        f"{top:.0f} GOPS\n"
    )
    if importlib.util.find_spec("larq_compute_engine"):
        print("larq-compute-engine's optimised kernels are Arm's; x86 gets reference kernels.\n")
    print("| case | packed us | GOPS | of peak | best float32 | best int8 | others, us |")
    print("|---|---|---|---|---|---|---|")
    table = Table(seconds, top, tuple(part for part in given.rows.split(";") if part))
    for name in given.only.split(","):
        SECTIONS[name](table)


if __name__ == "__main__":
    main()
