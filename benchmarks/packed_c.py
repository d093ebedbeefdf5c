"""Networks in C beside the packed ones: time of one sample, bytes of code and weights, predictions.

``python benchmarks/packed_c.py CHECKPOINT`` adds a trained network to the binary layer. Times are
CPU time of one thread, medians of rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from packed_timing import rounds
from torch import Tensor, nn

from ste_lightning.deploy import PackedNetwork, pack
from ste_lightning.deploy.export import export, runtime
from ste_lightning.deploy.export.c.native import FLAGS
from ste_lightning.layers import QuantLinear
from ste_lightning.running.restoring import evaluation_samples, restored

COMPILERS = {
    "gcc": ("gcc", *FLAGS),
    "clang": ("clang", *FLAGS),
    "Cortex-M3": ("arm-none-eabi-gcc", "-std=c99", "-Os", "-mcpu=cortex-m3", "-mthumb"),
}


def binary_layer(size: int) -> tuple[PackedNetwork, Tensor]:
    torch.manual_seed(0)
    signs = {"weight_quantizer": "sign", "input_quantizer": "sign"}
    x = torch.randn(4, size)
    return pack(nn.Sequential(QuantLinear(size, size, bias=False, **signs)).eval(), x), x


def trained(checkpoint: str) -> tuple[PackedNetwork, Tensor]:
    model, data = restored(checkpoint, None)
    x = evaluation_samples(data, 1 << 20)
    return pack(model, x[:16]), x


def code_bytes(source: Path, command: tuple[str, ...]) -> int | None:
    """Return the bytes of code and constants that a compiler makes, None without it."""
    made = source.with_suffix(".o")
    try:
        subprocess.run([*command, "-c", str(source), "-o", str(made)], check=True)
    except FileNotFoundError:
        return None
    size = "arm-none-eabi-size" if command[0].startswith("arm") else "size"
    said = subprocess.run([size, str(made)], check=True, capture_output=True, text=True)
    text, data, *_ = said.stdout.splitlines()[1].split()
    return int(text) + int(data)


def row(name: str, network: PackedNetwork, x: Tensor, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = export(network, Path(folder) / "network.c", "c", x)
        expected = network(x)
        run = runtime(source, "c")
        assert run is not None, "needs a C compiler"
        different = int((run(x).argmax(1) != expected.argmax(1)).sum())
        sizes = {label: code_bytes(source, command) for label, command in COMPILERS.items()}
        one = x[:1].contiguous()
        given, y = one.numpy(), np.empty(expected.shape[1], np.float32)
        calls = {"packed": lambda: network(one)}
        for label in ("gcc", "clang"):
            if sizes[label] is not None:
                library = str(source.with_name(f"{label}.so"))
                shared = [*COMPILERS[label], "-shared", "-fPIC", "-o", library, str(source), "-lm"]
                subprocess.run(shared, check=True)
                function = ctypes.CDLL(library).network
                function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
                where = given.ctypes.data, y.ctypes.data
                calls[label] = lambda f=function, w=where: f(*w)
        times = {k: statistics.median(v) * 1e6 for k, v in rounds(calls, seconds).items()}
    shown = " | ".join(f"{times.get(k, float('nan')):.1f}" for k in ("packed", "gcc", "clang"))
    bytes_ = " | ".join("-" if size is None else f"{size:,}" for size in sizes.values())
    print(f"| {name} | {shown} | {bytes_} | {different} of {len(x)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(platform.processor() or platform.machine(), *FLAGS)
    print("| one sample | packed, us | gcc | clang | bytes, gcc | clang | Cortex-M3 | differ |")
    print("|---|---|---|---|---|---|---|---|")
    row("binary linear 1024 x 1024", *binary_layer(1024), options.seconds)
    for checkpoint in options.checkpoints:
        row(Path(checkpoint).parts[-3], *trained(checkpoint), options.seconds)


if __name__ == "__main__":
    main()
