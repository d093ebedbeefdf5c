"""How much of a training step is loading: batches in memory beside forward, backward and step.

    python benchmarks/loading.py --root FOLDER   # of Fashion-MNIST; default where Debian puts it

Loading is timed by itself and as a share of whole steps, both interleaved in one process; the
medians are printed. The bar is 10 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ste_lightning.data import Arrays, Digits, FashionMNIST, Text
from ste_lightning.models.networks import MLP, CharacterModel, ConvNet

Batch = tuple[Tensor, Tensor]
CROPPED = {"crop": 4, "flip": True}


def colours(folder: Path, augment: dict[str, Any]) -> Arrays:
    """Return pictures of CIFAR's size."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5000, 3, 32, 32), dtype=np.uint8), np.arange(5000) % 10
    np.savez(folder / "colours.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    return Arrays(folder / "colours.npz", augment=augment)


def letters(folder: Path) -> Text:
    """Return a random text."""
    drawn = np.random.default_rng(0).integers(97, 123, 200_000, dtype=np.uint8)
    (folder / "letters.txt").write_bytes(drawn.tobytes())
    return Text(folder / "letters.txt", batch_size=16)


def cases(root: str | None, folder: Path) -> Iterator[tuple[str, Any, nn.Module]]:
    yield "digits, MLP", Digits(), MLP()
    garments = {"root": root, "limit": 5000}
    try:
        plain, moved = FashionMNIST(**garments), FashionMNIST(**garments, augment=CROPPED)
        plain.setup()
        yield "Fashion-MNIST, MLP of 1024", plain, MLP(784, hidden=(1024, 1024))
        net = ConvNet((1, 28, 28), channels=(32, 64, 128, 128), pool=(1, 3))
        yield "Fashion-MNIST, CNN, crop and flip", moved, net
    except ValueError as error:
        print(f"left out: {error}")
    net = ConvNet((3, 32, 32), channels=(32, 64, 128, 128), pool=(1, 3))
    yield "32 x 32 colours, CNN, crop and flip", colours(folder, CROPPED), net
    harder = {**CROPPED, "rand": {"count": 2, "magnitude": 9}, "cutout": 8, "mixup": 0.2}
    yield "the same, RandAugment, cutout, mixup", colours(folder, harder), net
    yield "text, transformer of 128", letters(folder), CharacterModel()


def endless(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=None)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'data, network':38} {'loading ms':>11} {'step ms':>9} {'share':>7}")
    with tempfile.TemporaryDirectory() as name:
        for title, data, network in cases(options.root, Path(name)):
            data.setup()
            batches = endless(data.train_dataloader())
            optimizer = torch.optim.Adam(network.parameters())
            box: list[Batch] = []

            def load(batches: Iterator[Batch] = batches, box: list[Batch] = box) -> None:
                box[:] = [next(batches)]

            def step(
                network: nn.Module = network,
                optimizer: torch.optim.Optimizer = optimizer,
                box: list[Batch] = box,
            ) -> None:
                x, y = box[0]
                logits = network(x)
                loss = nn.functional.cross_entropy(
                    logits.flatten(0, -2), y if y.is_floating_point() else y.flatten()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            times = [(timed(load), timed(step)) for _ in range(options.steps + 3)][3:]
            loading, rest = (statistics.median(part) for part in zip(*times, strict=True))
            share = loading / (loading + rest)
            print(f"{title:38} {1e3 * loading:11.2f} {1e3 * rest:9.2f} {share:7.1%}")


if __name__ == "__main__":
    main()
