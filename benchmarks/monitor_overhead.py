"""What QuantizationMonitor costs, logging to CSV included.

    python benchmarks/monitor_overhead.py [--steps 400] [--every 100] [--hidden 512]

A binary network (64 inputs, batches of 128) trains with the monitor on at every second step:
measured and unmeasured steps alternate and see the same noise of the machine; processor time is
counted, so that other programs do not. The overhead at ``--every`` is the difference of the two
medians, divided by ``every`` times the unmeasured step's.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from ste_lightning.callbacks import QuantizationMonitor
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


def measure(hidden: int, steps: int, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of unmeasured and of measured steps."""
    clock = Clock()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128 * steps, 64, generator=generator)
    y = torch.randint(10, (len(x),), generator=generator)
    data = torch.utils.data.TensorDataset(x, y)
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), 128, True)
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[QuantizationMonitor(every=2, figures=False), clock],
        logger=CSVLogger(folder),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = torch.utils.data.DataLoader(data, sampler=sampler, batch_size=None)
    trainer.fit(Network(hidden), loader)
    times = np.array(clock.times[20:])
    return times[0::2], times[1::2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plain, measured = measure(options.hidden, options.steps, folder)
    step = np.median(plain)
    differences = (measured - plain[: len(measured)]) / (options.every * step)
    low, middle, high = np.percentile(differences, [25, 50, 75])
    print(f"step {step * 1e3:.2f} ms; measured step {np.median(measured) * 1e3:.2f} ms")
    print(f"overhead at every={options.every}: {middle:.2%} (quartiles {low:.2%} .. {high:.2%})")


if __name__ == "__main__":
    main()
