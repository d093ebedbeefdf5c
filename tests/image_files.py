"""Tiny data sets in the formats of the public ones."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count: int, classes: int = 10) -> np.ndarray:
    return np.arange(count) % classes


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 60, test: int = 20, packed: bool = True) -> None:
    for part, count in (("train", train), ("t10k", test)):
        for name, array in (
            (f"{part}-images-idx3-ubyte", images(count, 28, 28)),
            (f"{part}-labels-idx1-ubyte", labels(count)),
        ):
            data = idx_bytes(array)
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data) if packed else data)


def write_cifar(root: Path, classes: int, binary: bool, count: int = 20) -> None:
    folder = {
        (10, False): "cifar-10-batches-py",
        (10, True): "cifar-10-batches-bin",
        (100, False): "cifar-100-python",
        (100, True): "cifar-100-binary",
    }[classes, binary]
    (root / folder).mkdir()
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for seed, name in enumerate(files if classes == 10 else ["train", "test"]):
        x, y = images(count, 3 * 32 * 32, seed=seed), labels(count, classes)
        if binary:
            before = [y // 5, y] if classes == 100 else [y]
            rows = np.concatenate([*(part[:, None].astype(np.uint8) for part in before), x], 1)
            (root / folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            key = "labels" if classes == 10 else "fine_labels"
            batch = {b"data": x, key.encode(): y.tolist(), b"batch_label": b"a batch"}
            (root / folder / name).write_bytes(pickle.dumps(batch, protocol=2))
