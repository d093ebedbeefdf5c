"""CIFAR-10 and CIFAR-100 as their authors distribute them, for Python and as binary files.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning.data.formats.plain_pickle import load_plain
from ste_lightning.errors import ConfigurationError

__all__ = ["CIFAR_FILES", "read_cifar"]

_PIXELS = 3 * 32 * 32
_MOST = 400 << 20  # bytes; the largest file there is has 184 MB

# classes -> (folder and files of the Python version, of the binary version): training, test
CIFAR_FILES: dict[int, tuple[tuple[str, list[str], list[str]], ...]] = {
    10: (
        ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]),
        ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]),
    ),
    100: (
        ("cifar-100-python", ["train"], ["test"]),
        ("cifar-100-binary", ["train.bin"], ["test.bin"]),
    ),
}


def read_cifar(path: str | Path, classes: int) -> tuple[Tensor, Tensor]:
    """Read one file of CIFAR-10 or CIFAR-100.

    Args:
        path: a batch for Python, or a file ending in ``.bin``.
        classes: 10, or 100 for the fine labels of CIFAR-100.

    Returns:
        Images uint8 (N, 3, 32, 32), red first, and labels int64 (N,).

    Raises:
        ConfigurationError: for a file of another kind, and for a batch that holds anything but
            arrays, numbers and text: nothing of it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"{path} is missing: put that file there.")
    if path.stat().st_size > _MOST:
        raise ConfigurationError(f"{path} is too large to be a file of CIFAR-{classes}.")
    if path.suffix == ".bin":
        pixels, labels = _binary(path, classes)
    else:
        pixels, labels = _python(path, classes)
    if len(pixels) == 0 or len(pixels) != len(labels):
        raise ConfigurationError(f"{path} has {len(pixels)} images and {len(labels)} labels.")
    if labels.min() < 0 or labels.max() >= classes:
        raise ConfigurationError(f"{path} has labels outside 0..{classes - 1}.")
    images = torch.from_numpy(pixels.copy()).reshape(-1, 3, 32, 32)
    return images, torch.from_numpy(labels.astype(np.int64))


def _binary(path: Path, classes: int) -> tuple[Any, Any]:
    before = 1 if classes == 10 else 2  # CIFAR-100 writes the coarse label first
    data = np.fromfile(path, np.uint8)
    if len(data) % (before + _PIXELS):
        raise ConfigurationError(f"{path} is not a whole number of images of CIFAR-{classes}.")
    rows = data.reshape(-1, before + _PIXELS)
    return rows[:, before:], rows[:, before - 1]


def _python(path: Path, classes: int) -> tuple[Any, Any]:
    try:
        batch = load_plain(path.read_bytes())
        batch = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
        pixels, labels = batch["data"], batch["labels" if classes == 10 else "fine_labels"]
    except Exception as error:  # whatever a broken file makes the reader raise
        raise ConfigurationError(f"{path} is not a batch of CIFAR-{classes}: {error}.") from error
    rows = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2
    if not rows or pixels.shape[1] != _PIXELS:
        raise ConfigurationError(f"{path} does not hold rows of {_PIXELS} bytes.")
    if isinstance(labels, list) and all(type(n) is int and 0 <= n < 1 << 31 for n in labels):
        labels = np.array(labels, np.int64)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ConfigurationError(f"{path} does not hold a list of whole numbers as labels.")
    return pixels, labels
