"""Time and memory of a training step: quantized layers against the same float network.

    python benchmarks/training_step.py [--rounds 15] [--compile] [--bf16] [--out FILE]
        [--only mlp,maps,cnn,cnn_pool,recipes,w4a4,uniform,widths,gpu]

All rows of a table run interleaved in one process on one thread; a row's ratio is the median
over rounds of its CPU time divided by the float network's in the same round. "saved" is what
autograd keeps for the backward pass: bytes of distinct storages, less parameters, buffers and
the input batch. Other packages have rows where they are installed (the extra ``peers``).
``--bf16`` runs all networks, the float one too, under bfloat16 autocast. ``--out`` writes every
round's seconds and the saved bytes as JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from training_networks import (
    HandConv,
    HandLinear,
    cnn,
    every_map,
    four_bit_convolution,
    four_bits,
    mlp,
    recipe_networks,
)
from training_peers import peer_convolutions, peer_layers

from ste_lightning.layers import QuantConv2d, QuantLinear

measured: dict[str, dict[str, object]] = {}


def saved_bytes(net: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return the bytes that autograd keeps between forward and backward."""
    net(x)  # learned steps take their first values from a first batch
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), x, y)}
    storages: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t)  # keeps the storage alive, so that its address is not used twice
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        F.cross_entropy(net(x), y)
    return sum(storages.values())


def stepper(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    """Return a function that takes one training step and returns its CPU seconds."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        return time.process_time() - start

    return step


def keep(path: pathlib.Path | None) -> None:
    """Write what has been measured so far."""
    if path is None:
        return
    machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    tables = {"torch": torch.__version__, "machine": machine, "tables": measured}
    path.write_text(json.dumps(tables, separators=(",", ":")) + "\n")


def rounded(seconds: list[float]) -> list[float]:
    """Return them to the microsecond."""
    return [round(value, 6) for value in seconds]


def on_device(
    device: str, nets: dict[str, nn.Module], x: Tensor, y: Tensor, rounds: int, title: str
) -> None:
    """Print time and peak memory of steps under bfloat16 autocast on an accelerator.

    Args:
        device: ``"cuda"``; ``"cpu"`` runs the same code, without the peak of memory.
        nets: the first is the float one.
    """
    gpu = device == "cuda"
    x, y = x.to(device), y.to(device)
    times: dict[str, list[float]] = {name: [] for name in nets}
    peaks: dict[str, int] = {}
    optimizers = {}
    for name, net in nets.items():
        optimizers[name] = torch.optim.SGD(net.to(device).parameters(), lr=1e-3)

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = F.cross_entropy(nets[name](x), y)
        loss.backward()
        optimizers[name].step()
        if gpu:
            torch.cuda.synchronize()

    for name in nets:
        step(name)
        if gpu:
            optimizers[name].zero_grad()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step(name)
            peaks[name] = torch.cuda.max_memory_allocated() - before
            optimizers[name].zero_grad()
    for _ in range(rounds):
        for name in nets:
            start = time.perf_counter()
            step(name)
            times[name].append(time.perf_counter() - start)
    measured[title] = {n: {"seconds": rounded(times[n]), "peak bytes": peaks.get(n)} for n in nets}
    reference = next(iter(nets))
    table = Table("network", "ms", "time / float", "peak MiB", "peak / float", title=title)
    for name in nets:
        ratios = [a / b for a, b in zip(times[name], times[reference], strict=True)]
        peak = ("-", "-")
        if gpu:
            share = peaks[name] / peaks[reference]
            peak = (f"{peaks[name] / 2**20:.1f}", f"{share:.3f}")
        median = f"{1e3 * statistics.median(times[name]):.2f}"
        table.add_row(name, median, f"{statistics.median(ratios):.2f}", *peak)
    Console().print(table)


def accelerated(device: str, rounds: int, images: int = 512, width: int = 4096) -> None:
    """Print the CNN and a wide MLP under bfloat16 autocast."""
    name = torch.cuda.get_device_name() if device == "cuda" else device

    def first(a: int, b: int) -> nn.Module:
        return QuantLinear(a, b, input_quantizer=None)

    x, y = torch.randn(images, 3, 32, 32), torch.randint(10, (images,))
    nets = {
        "float": cnn(nn.Conv2d, True),
        "ours": cnn(QuantConv2d, False),
        "hand-written": cnn(HandConv, False),
    }
    on_device(device, nets, x, y, rounds, f"CNN, bfloat16, batch {images}, {name}")
    x, y = torch.randn(images, width), torch.randint(10, (images,))
    widths = (width, width, width, 10)
    nets = {
        "float": mlp(nn.Linear, nn.Linear, widths, True),
        "ours": mlp(first, QuantLinear, widths, False),
        "hand-written": mlp(
            lambda a, b: HandLinear(a, b, binary_input=False), HandLinear, widths, False
        ),
    }
    on_device(device, nets, x, y, rounds, f"MLP of width {width}, bfloat16, batch {images}, {name}")


class Mixed(nn.Module):
    """A network under bfloat16 autocast, as Lightning's bf16-mixed runs it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's outputs in float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(x).float()


def compare(title: str, nets: dict[str, nn.Module], x: Tensor, y: Tensor, rounds: int) -> None:
    """Print time and saved bytes of every network beside the first, the float one."""
    saved = {}
    for name, net in list(nets.items()):
        try:
            saved[name] = saved_bytes(net, x, y)
            stepper(net, x, y)()
        except Exception as error:
            if name.startswith(("float", "ours")):
                raise
            del nets[name]  # other packages' layers do not all compile
            Console().print(f"{name}: {type(error).__name__}")
    steps = {name: stepper(net, x, y) for name, net in nets.items()}
    times: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds + 2):
        for name, step in steps.items():
            times[name].append(step())
    times = {name: values[2:] for name, values in times.items()}  # two to warm up
    measured[title] = {n: {"seconds": rounded(times[n]), "saved bytes": saved[n]} for n in nets}
    reference, base = next(iter(nets)), saved[next(iter(nets))]
    table = Table("network", "ms", "time / float", "saved MiB", "saved / float", title=title)
    for name in nets:
        ratios = [a / b for a, b in zip(times[name], times[reference], strict=True)]
        table.add_row(
            name,
            f"{1e3 * statistics.median(times[name]):.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{saved[name] / 2**20:.3f}",
            f"{saved[name] / base:.3f}",
        )
    Console().print(table)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", default="mlp,maps,cnn,cnn_pool,recipes,w4a4,uniform,widths,gpu")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wanted = arguments.only.split(",")

    def ready(nets: dict[str, nn.Module]) -> dict[str, nn.Module]:
        if arguments.bf16:
            nets = {f"{name} (bf16-mixed)": Mixed(net) for name, net in nets.items()}
        if not arguments.compile:
            return nets
        nets.pop("brevitas, 4 bits", None)  # compiles anew at every step
        torch.compiler.reset()
        # the networks of a table share their code and so this limit, which is 8 for a single one
        torch._dynamo.config.recompile_limit = 2 * len(nets) + 8
        return {f"{k} (compiled)": torch.compile(v) for k, v in nets.items()}  # type: ignore[misc]

    def mlps(*widths: int) -> dict[str, nn.Module]:
        def first(a: int, b: int) -> nn.Module:
            return QuantLinear(a, b, input_quantizer=None)

        rows = {
            "float": mlp(nn.Linear, nn.Linear, widths, True),
            "ours": mlp(first, QuantLinear, widths, False),
            "hand-written": mlp(
                lambda a, b: HandLinear(a, b, binary_input=False), HandLinear, widths, False
            ),
        }
        for name, (plain, quantized) in peer_layers().items():
            rows[name] = mlp(plain, quantized, widths, False)
        return ready(rows)

    def table(title: str, nets: dict[str, nn.Module], x: Tensor, y: Tensor, times: int = 1) -> None:
        compare(title, nets, x, y, times * arguments.rounds)
        keep(arguments.out)

    if "mlp" in wanted:
        x, y = torch.randn(256, 784), torch.randint(10, (256,))
        table("MLP 784-1024-1024-10, batch 256", mlps(784, 1024, 1024, 10), x, y)
    if "maps" in wanted:
        x, y = torch.randn(256, 1024), torch.randint(10, (256,))
        table("Three linear layers of 1024 with layer norm, batch 256", ready(every_map()), x, y)
    for name, map_, title in (
        ("w4a4", "lsq", "learned steps"),
        ("uniform", "uniform", "uniform grids"),
    ):
        if name in wanted:
            x, y = torch.randn(256, 784), torch.randint(10, (256,))
            nets = four_bits(map_, (784, 1024, 1024, 10))
            title = f"MLP 784-1024-1024-10 in 4 bits with {title}, batch 256"
            table(title, ready(nets), x, y)
    if "widths" in wanted:
        for width in (64, 128, 256, 512):
            x, y = torch.randn(64, width), torch.randint(10, (64,))
            nets = mlps(width, width, width, 10)
            table(f"MLP of width {width}, batch 64", nets, x, y, 10)
    for name, halved in (("cnn", "strides"), ("cnn_pool", "max pooling")):
        if name in wanted:
            x, y = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
            pool = name == "cnn_pool"
            nets = {
                "float": cnn(nn.Conv2d, True, pool),
                "ours": cnn(QuantConv2d, False, pool),
                "ours, 4 bits, learned steps": cnn(four_bit_convolution("lsq"), False, pool),
                "ours, 4 bits, uniform grids": cnn(four_bit_convolution("uniform"), False, pool),
                "hand-written": cnn(HandConv, False, pool),
                **{peer: cnn(conv, False, pool) for peer, conv in peer_convolutions().items()},
            }
            title = f"CNN 64-64-128-128-256-256, halved by {halved}, batch 64"
            table(title, ready(nets), x, y)
    if "recipes" in wanted:
        for title, (network, batch) in recipe_networks().items():
            smooth = network({"map": "sign", "rule": "approx"})
            nets = {"float": network(None), "ours": network("sign"), "ours, rule approx": smooth}
            for name in list(nets):
                last = copy.deepcopy(nets[name]).to(memory_format=torch.channels_last)
                nets[f"{name}, channels last"] = last
            x, y = torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))
            table(f"{title}, W1A1, batch {batch}", ready(nets), x, y)
    if "gpu" in wanted and torch.cuda.is_available():
        accelerated("cuda", arguments.rounds)
        keep(arguments.out)


if __name__ == "__main__":
    main()
