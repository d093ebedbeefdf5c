"""Time of a training step by precision, order of memory and kind of Adam, one thread.

    python benchmarks/channels_last.py [--rounds 3]

The networks of the recipes fashion_mnist_cnn and fashion_mnist_mlp, batch 128, Adam; all variants
of a network take turns, and medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from ste_lightning.models import Classifier

LSQ4 = {"map": "lsq", "bits": 4}
LSQ2 = {"map": "lsq", "bits": 2}
QUANTIZERS = {
    "float": (None, None),
    "W1A1": ("sign", "sign"),
    "W2A2": (LSQ2, {**LSQ2, "signed": False}),
    "W4A4": (LSQ4, {**LSQ4, "signed": False}),
}
CNN = {"image": [1, 28, 28], "channels": [64, 128, 256, 256], "pool": [0, 1, 2]}
MLP = {"features": 784, "hidden": [1024, 1024, 1024]}


class Training:
    """A network that takes training steps and notes their seconds."""

    def __init__(self, kind: str, quantizers: str, half: bool, last: bool, fused: bool) -> None:
        weight, inputs = QUANTIZERS[quantizers]
        network = {
            "_target_": f"ste_lightning.models.networks.{kind}",
            **(CNN if kind == "ConvNet" else MLP),
            "weight_quantizer": weight,
            "input_quantizer": inputs,
        }
        torch.manual_seed(0)
        self.model = Classifier(network, 10, channels_last=last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, fused=fused)
        self.half = half
        self.seconds: list[float] = []

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take a step."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.model(x)
        F.cross_entropy(logits.float(), y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(time.perf_counter() - start)


def compare(kind: str, variants: dict[str, tuple[bool, bool, bool]], rounds: int) -> None:
    """Print a line per quantizer and a column per variant (bfloat16, channels last, fused)."""
    x, y = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
    table = Table("ms", *variants, title=kind)
    for name in QUANTIZERS:
        runs = [Training(kind, name, *variant) for variant in variants.values()]
        for _ in range(rounds + 1):
            for run in runs:
                run.step(x, y)
        medians = [1e3 * statistics.median(run.seconds[1:]) for run in runs]
        table.add_row(name, *(f"{value:.0f}" for value in medians))
    Console().print(table)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    precisions = {"float32": (False, False, True), "bfloat16": (True, False, True)}
    last = {"float32, last": (False, True, True), "bfloat16, last": (True, True, True)}
    compare("ConvNet", {**precisions, **last}, rounds)
    plain = {"float32, Adam": (False, False, False), "bfloat16, Adam": (True, False, False)}
    compare("MLP", {**plain, **precisions}, 4 * rounds)


if __name__ == "__main__":
    main()
