"""How fast is `theory.simulate`? Against ordinary PyTorch training, and against the memory.

    python benchmarks/theory_engine.py [--rounds 5]

One thread, interleaved: each round times every contender once, ratios are taken within a round,
and the median [quartiles] over rounds is printed. Time is CPU time of the process, except for
the two threads, which need wall time. Times are of training alone; the data are made before.

Two threads stand beside what two threads of loops that only read or only multiply reach in the
same rounds: the machine's own scaling.

The ceilings are what reading the data must cost: once per step from the cache level that holds
them, and once more, unit by unit, from the first level, one after the other; or, stricter, both at
once, when the slower of the two is all. The bandwidths are those of the fastest of two loops that
only add, one of them with prefetching, before and after each run of the kernel: the better counts.
Where CUDA finds a GPU, the batched backend's rate there follows.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from machine_loops import bandwidth, compute, floats, read, seconds
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.theory.engine import batched, cpu
from ste_lightning.theory.engine.families import family_of
from ste_lightning.theory.engine.problem import Problem, ProblemLaw
from ste_lightning.theory.engine.record import Record
from ste_lightning.theory.simulate import simulate


class Step(torch.autograd.Function):
    """step(x) with ReLU's derivative, as everybody writes it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


class Sign(torch.autograd.Function):
    """sign(x) with the identity's derivative."""

    @staticmethod
    def forward(ctx, x):
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Student(nn.Module):
    """One binary two-layer network."""

    def __init__(self, latent: Tensor, v: Tensor) -> None:
        super().__init__()
        self.latent = nn.Parameter(latent.clone())
        self.register_buffer("v", v)
        self.scale = latent.numel() ** -0.5

    def forward(self, Z: Tensor) -> Tensor:
        """Return y for Z of shape (N, m, n)."""
        return Step.apply(Z @ (self.scale * Sign.apply(self.latent))) @ self.v


def law(n: int, m: int, samples: int, noise: float) -> ProblemLaw:
    return ProblemLaw(
        *(n, m, samples, "gaussian", "none", "normalized", noise, "ones", "teacher", 0.1), seed=0
    )


def ordinary(problem: Problem, steps: int) -> None:
    """Train the first trial: nn.Module, autograd, torch.optim.SGD, hits recorded."""
    Z, teacher, v = problem.inputs[0], problem.teacher[0], problem.v[0]
    y = ((Z @ teacher) > 0).float() @ v
    student = Student(problem.latent[0], v)
    # Autograd through sign(x)/sqrt(n) has a factor 1/sqrt(n) more than the coarse gradient.
    optimizer = torch.optim.SGD(student.parameters(), lr=math.sqrt(len(teacher)))
    hits = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (student(Z) - y).square().mean() / 2
        loss.backward()
        optimizer.step()
        hits.append(bool(torch.equal(Sign.apply(student.latent.detach()), teacher)))


def engine(problem: Problem, steps: int, lazy: bool) -> None:
    """Train all trials of the problem with the compiled kernel."""
    record = Record.empty(problem.latent, problem.v, steps, 1, 512)
    families = family_of(SF.surrogate("relu")), family_of(SF.surrogate("identity"))
    assert families[0] is not None
    assert families[1] is not None
    cpu.run(
        problem, record, steps=steps, lr=1.0, rule=families[0], weight_rule=families[1], lazy=lazy
    )


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"


def compare(n: int, samples: int, m: int, trials: int, rounds: int, steps: dict[str, int]) -> None:
    problem = law(n, m, samples, 0.5).draw(0, trials)
    quiet = law(n, m, samples, 0.0).draw(0, trials)
    # Noisy labels: every step does its full work, as no gradient is ever zero.
    contenders: dict[str, tuple[Callable[[], None], int]] = {
        "ordinary": (lambda: ordinary(quiet, steps["ordinary"]), steps["ordinary"]),
        "engine": (lambda: engine(problem, steps["engine"], False), trials * steps["engine"]),
        "engine, lazy": (lambda: engine(quiet, steps["lazy"], True), trials * steps["lazy"]),
        "engine, lazy, noisy": (
            lambda: engine(problem, steps["lazy"], True),
            trials * steps["lazy"],
        ),
    }
    size = 4 * samples * m * n
    unit = 4 * (8 * 4 // math.gcd(4, m)) * m * n
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    ceilings: dict[str, list[float]] = {"ceiling, in turn": [], "ceiling, at once": []}
    for _ in range(rounds):
        for name, (run, work) in contenders.items():
            if name == "engine":
                before = bandwidth(size), bandwidth(unit)
            rates[name].append(work / seconds(run))
            if name == "engine":
                after = bandwidth(size), bandwidth(unit)
                outer, near = (size / max(pair) for pair in zip(before, after, strict=True))
                ceilings["ceiling, in turn"].append(1 / (outer + near))
                ceilings["ceiling, at once"].append(1 / max(outer, 2 * near))
    print(f"\nn={n} N={samples} m={m} ({size / 1024:.0f} KiB per trial), {trials} trials")
    for name, rate in rates.items():
        ratio = [a / b for a, b in zip(rate, rates["ordinary"], strict=True)]
        print(f"  {name:20s} trial-steps/s {spread(rate):34s} x ordinary {spread(ratio)}")
    for name, ceiling in ceilings.items():
        share = [a / b for a, b in zip(rates["engine"], ceiling, strict=True)]
        print(f"  {name:20s} trial-steps/s {spread(ceiling):34s} reached {spread(share)}")


def side_by_side(work: Callable[[int], object]) -> float:
    """Return how many times one thread's rate two threads reach, each with equal work."""

    def together() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(2)))

    alone = seconds(lambda: [work(i) for i in range(2)], time.perf_counter)
    return alone / seconds(together, time.perf_counter)


def threads(rounds: int) -> None:
    """Print what a second thread adds: to the engine, and to loops that this machine limits.

    Wall time. `simulate` includes the making of the data and whatever it cannot share out; the
    kernel alone does the same trials twice. Where the two processors are two threads of one core,
    a loop that keeps its registers busy gains next to nothing from the second.
    """
    n, m, samples = 32, 4, 256
    size = 4 * n * m * samples
    problem = law(n, m, samples, 0.5).draw(0, 16)
    data = [floats(size) for _ in range(2)]
    compute(np.float32(0.5), 1)  # compiled before it is timed

    def simulated(count: int) -> float:
        common = {"n": n, "m": m, "samples": samples, "noise": 0.5, "lazy": False}
        start = time.perf_counter()
        simulate(**common, trials=128, steps=2500, every=2500, threads=count)
        return time.perf_counter() - start

    loops: dict[str, Callable[[int], object]] = {
        "the kernel alone": lambda _: engine(problem, 8000, False),
        f"a loop that reads {size // 1024} KiB": lambda i: read(data[i], 120_000, True),
        "a loop that multiplies registers": lambda _: compute(np.float32(0.5), 40_000_000),
    }
    found: dict[str, list[float]] = {name: [] for name in ("simulate", *loops)}
    for _ in range(rounds):
        found["simulate"].append(simulated(1) / simulated(2))
        for name, work in loops.items():
            found[name].append(side_by_side(work))
    print("\ntwo threads x one (wall time)")
    for name, ratios in found.items():
        share = [ours / theirs for ours, theirs in zip(found["simulate"], ratios, strict=True)]
        reached = "" if name == "simulate" else f"simulate reaches {spread(share)} of it"
        print(f"  {name:34s} {spread(ratios):26s} {reached}")


def accelerator(device: torch.device, rounds: int, trials: int, steps: int = 200) -> None:
    """Print the batched backend's rate on ``device``, beside the kernel's and the bandwidth.

    Batched matrix products read the data twice a step: for Z w and for the gradient.
    """

    def finished(run: Callable[[], object]) -> float:
        def waited() -> None:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        waited()
        return min(seconds(waited, time.perf_counter) for _ in range(rounds))

    n, samples, m = 32, 256, 4
    drawn = law(n, m, samples, 0.5).draw(0, trials)
    there = Problem(*(t.to(device) for t in vars(drawn).values()))
    rules = SF.surrogate("relu"), SF.surrogate("identity")

    def run() -> None:
        record = Record.empty(there.latent, there.v, steps, steps, 512)
        batched.run(
            there, record, steps=steps, lr=1.0, rule=rules[0], weight_rule=rules[1], every=steps
        )

    rate = trials * steps / finished(run)
    few = law(n, m, samples, 0.5).draw(0, 16)
    cores = 2 * 16 * 1000 / finished(lambda: engine(few, 1000, False))
    numbers = there.inputs.numel()
    read = 4 * numbers / finished(lambda: there.inputs.sum())
    share = rate * 2 * 4 * samples * m * n / read
    print(f"\n{device}: n={n} N={samples} m={m}, {trials} trials, {4 * numbers / 2**30:.2f} GiB")
    print(f"  trial-steps/s {rate:.4g}, x twice one core of the CPU {rate / cores:.1f}")
    print(f"  share of the bandwidth ({read / 1e9:.0f} GB/s, two reads a step) {share:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    steps = {"ordinary": 300, "engine": 1000, "lazy": 2000}
    engine(law(8, 4, 64, 0.0).draw(0, 1), 1, True)
    compare(32, 256, 4, 16, rounds, steps)
    compare(128, 2048, 4, 2, rounds, {"ordinary": 100, "engine": 500, "lazy": 2000})
    threads(rounds)
    if torch.cuda.is_available():
        accelerator(torch.device("cuda"), rounds, trials=16384)


if __name__ == "__main__":
    main()
