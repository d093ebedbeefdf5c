"""How fast is `theory.simulate`? Against ordinary PyTorch training, and against the memory.

    python benchmarks/theory_engine.py [--rounds 5]

One thread, interleaved: each round times every contender once, ratios are taken within a round,
and the median [quartiles] over rounds is printed. Time is CPU time of the process, except for
the two threads, which need wall time. Times are of training alone; the data are made before.

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

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.kernels.compiling import compiled, emitted
from ste_lightning.theory.engine import batched, cpu
from ste_lightning.theory.engine.families import family_of
from ste_lightning.theory.engine.llvm import INDEX, LANES, VECTOR, cell_of, load
from ste_lightning.theory.engine.problem import Problem, ProblemLaw
from ste_lightning.theory.engine.record import Record
from ste_lightning.theory.simulate import simulate


class Step(torch.autograd.Function):
    """step(x) with ReLU's derivative, as everybody writes it."""

    @staticmethod
    def forward(ctx, x):  # noqa: D102
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        return grad * (ctx.saved_tensors[0] > 0)


class Sign(torch.autograd.Function):
    """sign(x) with the identity's derivative."""

    @staticmethod
    def forward(ctx, x):  # noqa: D102
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
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


_STEP = 8 * LANES  # floats that the read loops take at once, in sums of their own
_AHEAD = 256  # floats that one of them prefetches ahead


def reading(ahead: int) -> Callable[..., object]:
    """Return the loop that adds up ``count * _STEP`` floats, prefetching ``ahead`` if not 0."""

    def add(typing, data, count):
        def code(context, builder, signature, args):
            first = context.make_array(signature.args[0])(context, builder, args[0]).data
            sums = [cell_of(builder) for _ in range(_STEP // LANES)]
            for cell in sums:
                builder.store(ir.Constant(VECTOR, None), cell)
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            hints = [ir.Constant(flag, hint) for hint in (0, 3, 1)]  # read, first level, data
            with cgutils.for_range(builder, args[1]) as loop:
                place = builder.gep(first, [builder.mul(loop.index, ir.Constant(INDEX, _STEP))])
                for line in range(0, _STEP if ahead else 0, 16):
                    later = builder.gep(place, [ir.Constant(INDEX, ahead + line)])
                    builder.call(fetch, [builder.bitcast(later, byte), *hints])
                for i, cell in enumerate(sums):
                    builder.store(builder.fadd(builder.load(cell), load(builder, place, i)), cell)
            total = ir.Constant(VECTOR, None)
            for cell in sums:
                total = builder.fadd(total, builder.load(cell))
            return builder.extract_element(total, ir.Constant(flag, 0))

        return types.float32(types.Array(types.float32, 1, "C"), types.int64), code

    return emitted(add)


_plain, _prefetching = reading(0), reading(_AHEAD)


@compiled
def read(data, repeats, prefetch):
    total = np.float32(0)
    for _ in range(repeats):
        if prefetch:
            total += _prefetching(data, len(data) // _STEP)
        else:
            total += _plain(data, len(data) // _STEP)
    return total


def bandwidth(size: int) -> float:
    """Return bytes per second when ``size`` bytes are read again and again, by the better loop."""
    data = cpu._scratch(max(_STEP, size // 4 // _STEP * _STEP))
    data[:] = 1
    repeats = max(2, 2**31 // data.nbytes)
    read(data, 1, True)
    plain = seconds(lambda: read(data, repeats, False))
    prefetching = seconds(lambda: read(data, repeats, True))
    return data.nbytes * repeats / min(plain, prefetching)


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    run()
    return clock() - start


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


def threads(rounds: int) -> None:
    def run(count: int) -> Callable[[], object]:
        return lambda: simulate(
            n=32, m=4, samples=256, trials=64, steps=10_000, noise=0.5, lazy=False, threads=count
        )

    ratios = [
        seconds(run(1), time.perf_counter) / seconds(run(2), time.perf_counter)
        for _ in range(rounds)
    ]
    print(f"\ntwo threads x one (wall time, with the making of the data): {spread(ratios)}")


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
