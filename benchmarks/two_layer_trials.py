"""Trials per second: the batched LightningModule against a loop of single-trial PyTorch training.

    python benchmarks/two_layer_trials.py

n = 32, m = 4, N = 256, relu, plain SGD, one thread. The loop is what one would write first: an
nn.Module, autograd, torch.optim.SGD, and the first hit recorded at every step. The batched
side is a whole `Trainer.fit` (progress bar and logger off) of 64 trials with all statistics.
Both sides see the same data and teachers; rounds alternate, and the ratio of each is reported.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings

import lightning as L
import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.models import BinaryTwoLayer


class SingleTrial(nn.Module):
    """One trial, as one would write it first."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(n))
        self.register_buffer("v", torch.full((m,), m**-0.5))

    def forward(self, Z: Tensor) -> Tensor:
        """Return v^T step(Z w)."""
        sign = SF.sign(self.weight, rule="identity")
        return SF.step(Z @ (sign * len(sign) ** -0.5), rule="relu") @ self.v


def loop(data: TeacherStudent, trials: int, steps: int) -> tuple[float, int]:
    """Return the seconds per trial and how many of the trials recovered the teacher."""
    Z, y = data.train_data
    teacher = data.teacher[0].sign()
    recovered = 0
    start = time.perf_counter()
    for trial in range(trials):
        model = SingleTrial(data.n, data.m)
        # Autograd through sign(x) / sqrt(n) has a factor 1/sqrt(n) that the coarse gradient lacks.
        optimizer = torch.optim.SGD(model.parameters(), lr=data.n**0.5)
        first_hit = None
        for step in range(steps):
            optimizer.zero_grad()
            loss = (model(Z[trial]) - y[trial]).square().mean() / 2
            loss.backward()
            optimizer.step()
            recovers = torch.equal(SF.hard_sign(model.weight.detach()), teacher[trial])
            if first_hit is None and recovers:
                first_hit = step
        recovered += recovers
    return (time.perf_counter() - start) / trials, recovered


def batched(data: TeacherStudent, steps: int) -> tuple[float, int]:
    """Return the seconds per trial and how many of the trials recovered the teacher."""
    model = BinaryTwoLayer(data.n, data.m, data.trials, rule="relu")
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    start = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - start
    return seconds / data.trials, int(model.result()["last_recovery"].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-trials", type=int, default=8, help="trials of the loop per round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = TeacherStudent(n=32, m=4, samples=256, trials=64, steps_per_epoch=args.steps)
    data.setup("fit")
    ratios = []
    print(f"{args.steps} steps a trial; trials/s of the loop, of the module, ratio")
    for _ in range(args.rounds):
        one, one_recovered = loop(data, args.loop_trials, args.steps)
        many, many_recovered = batched(data, args.steps)
        ratios.append(one / many)
        print(
            f"{1 / one:8.1f} {1 / many:8.1f} {ratios[-1]:6.1f}x   recovered "
            f"{one_recovered}/{args.loop_trials} and {many_recovered}/{data.trials}"
        )
    print(f"median {statistics.median(ratios):.1f}x")


if __name__ == "__main__":
    main()
