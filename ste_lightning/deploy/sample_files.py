"""Samples from image, array and text files, in batches."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require

__all__ = ["Samples", "open_samples"]

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm"})


class Samples:
    """Named samples that are read batch by batch.

    Args:
        names: one per sample.
        read: returns the samples of a range as a float32 array.
    """

    def __init__(self, names: Sequence[str], read: Any) -> None:
        self.names = list(names)
        self._read = read

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, size: int) -> Iterator[tuple[list[str], Tensor]]:
        """Yield names and samples, ``size`` at a time."""
        for start in range(0, len(self), size):
            end = min(start + size, len(self))
            array = np.array(self._read(start, end), dtype=np.float32)
            require(
                bool(np.isfinite(array).all()),
                "input",
                f"samples {start} to {end - 1}",
                "they hold numbers that are not finite",
            )
            yield self.names[start:end], torch.from_numpy(array)


def open_samples(path: str, shape: Sequence[int] | None) -> Samples:
    """Open a file or a folder of images.

    Args:
        path: what the user gave.
        shape: shape of one sample, where the network knows it; rows of numbers are reshaped to
            it and images are resized and reduced to its channels.

    Raises:
        ConfigurationError: for a missing or unreadable file, or samples of another shape.
    """
    source = Path(path)
    if source.is_dir():
        images = sorted(p for p in source.rglob("*") if p.suffix.lower() in _IMAGES)
        require(bool(images), "input", path, "the folder holds no image")
        return _images(images, shape, source)
    require(source.is_file(), "input", path, "there is no such file or folder")
    suffix = source.suffix.lower()
    if suffix in _IMAGES:
        return _images([source], shape, source.parent)
    if suffix in (".npy", ".npz", ".csv"):
        try:
            array = _array(source, suffix)
        except (ValueError, OSError, EOFError) as error:
            raise ConfigurationError(f"input={path!r} cannot be read: {error}") from error
        return _rows(array, shape, path)
    raise ConfigurationError(
        f"input={path!r} cannot be used: give images, a folder of images, npy, npz or csv."
    )


def _array(source: Path, suffix: str) -> NDArray[Any]:
    if suffix == ".csv":
        if not source.read_bytes().strip():
            raise ValueError("it is empty")
        text = np.genfromtxt(source, delimiter=",", dtype=np.float64, ndmin=2)
        # A line of column names is read as one of no numbers.
        return text[1:] if len(text) and bool(np.isnan(text[0]).all()) else text
    loaded = np.load(source, allow_pickle=False, mmap_mode="r" if suffix == ".npy" else None)
    if isinstance(loaded, np.ndarray):
        return loaded
    require(len(loaded.files) >= 1, "input", str(source), "the archive is empty")
    name = next((n for n in ("x", "inputs", "images", "data") if n in loaded), loaded.files[0])
    found: NDArray[Any] = loaded[name]
    return found


def _rows(array: NDArray[Any], shape: Sequence[int] | None, path: str) -> Samples:
    require(array.ndim >= 1 and array.dtype.kind in "fiub", "input", path, "it must hold numbers")
    if shape is not None:
        size = math.prod(shape)
        if array.ndim >= 1 and array.size == size and tuple(array.shape) != (size,):
            array = array.reshape(1, -1)
        array = array.reshape(1, -1) if array.ndim == 1 else array
        per_sample = math.prod(array.shape[1:])
        require(
            per_sample == size,
            "input",
            path,
            f"a sample has {per_sample} numbers, the network takes {tuple(shape)}",
        )
        array = array.reshape(len(array), *shape)
    return Samples([str(i) for i in range(len(array))], lambda a, b: array[a:b])


def _images(paths: Sequence[Path], shape: Sequence[int] | None, root: Path) -> Samples:
    if importlib.util.find_spec("PIL") is None:
        raise ConfigurationError("reading images needs Pillow: pip install pillow")
    require(
        shape is not None and len(shape) == 3 and shape[0] in (1, 3),
        "input",
        str(root),
        "the network does not take images of one or three channels",
    )
    assert shape is not None
    names = [str(path.relative_to(root)) for path in paths]

    def read(start: int, end: int) -> NDArray[np.float32]:
        return np.stack([_image(path, shape) for path in paths[start:end]])

    return Samples(names, read)


def _image(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return one image as (channels, height, width) with values 0 to 255."""
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            converted = image.convert("L" if channels == 1 else "RGB")
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(converted, np.float32)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{path} cannot be read as an image: {error}") from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
