"""What QuantizationMonitor (logging to CSV included) and FiniteCheck cost.

    python benchmarks/callback_overhead.py [--steps 400] [--every 64] [--hidden 512]
    python benchmarks/callback_overhead.py --check

A binary network (64 inputs, batches of 128) trains; processor time is counted, so that other
programs do not. With the monitor on at every second step, measured and unmeasured steps alternate
and see the same noise of the machine: the overhead at ``--every`` is the difference of the two
medians, divided by ``every`` times the unmeasured step's. ``--check``: the share of the training
that ``FiniteCheck(every=10)`` spends in its hooks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from ste_lightning.callbacks import FiniteCheck, QuantizationMonitor
from ste_lightning.layers import QuantLinear


class Network(L.LightningModule):
    """64 -> hidden -> hidden -> 10, the inner layers binary."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(64, hidden),
            nn.BatchNorm1d(hidden),
            QuantLinear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            QuantLinear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Clock(L.Callback):
    """Takes the processor time of every step, data loading and all callbacks included."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.last = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, *rest: object) -> None:
        """Close a step."""
        now = time.process_time()
        self.times.append(now - self.last)
        self.last = now


class TimedCheck(FiniteCheck):
    """Sums the processor time of its hooks."""

    spent = 0.0

    def _timed(self, hook: Callable[..., None], *rest: Any) -> None:
        start = time.process_time()
        hook(*rest)
        self.spent += time.process_time() - start

    def on_train_batch_start(self, *rest: Any) -> None:
        """Take its time."""
        self._timed(super().on_train_batch_start, *rest)

    def on_before_backward(self, *rest: Any) -> None:
        """Take its time."""
        self._timed(super().on_before_backward, *rest)

    def on_train_batch_end(self, *rest: Any) -> None:
        """Take its time."""
        self._timed(super().on_train_batch_end, *rest)


def train(hidden: int, steps: int, folder: str, callback: L.Callback) -> np.ndarray:
    """Return the processor time of every step."""
    clock = Clock()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128 * steps, 64, generator=generator)
    y = torch.randint(10, (len(x),), generator=generator)
    data = torch.utils.data.TensorDataset(x, y)
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), 128, True)
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[callback, clock],
        logger=CSVLogger(folder),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = torch.utils.data.DataLoader(data, sampler=sampler, batch_size=None)
    trainer.fit(Network(hidden), loader)
    return np.array(clock.times)


def measure(hidden: int, steps: int, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of unmeasured and of measured steps."""
    times = train(hidden, steps, folder, QuantizationMonitor(every=2, figures=False))[20:]
    return times[0::2], times[1::2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.check:
            train(options.hidden, 20, folder, FiniteCheck())  # compiles machine code
            check = TimedCheck(every=10)
            total = train(options.hidden, options.steps, folder, check).sum()
            step, share = total / options.steps, check.spent / total
            print(f"step {step * 1e3:.2f} ms; FiniteCheck(every=10) {share:.2%} of it")
            return
        plain, measured = measure(options.hidden, options.steps, folder)
    step = np.median(plain)
    differences = (measured - plain[: len(measured)]) / (options.every * step)
    low, middle, high = np.percentile(differences, [25, 50, 75])
    print(f"step {step * 1e3:.2f} ms; measured step {np.median(measured) * 1e3:.2f} ms")
    print(f"overhead at every={options.every}: {middle:.2%} (quartiles {low:.2%} .. {high:.2%})")


if __name__ == "__main__":
    main()
