"""Samples from files, folders, arrays and pictures, batch by batch, as the network takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.deploy.predict.arrays import arranged, pictures_in
from ste_lightning.deploy.predict.files import FILES, arrays_in
from ste_lightning.deploy.predict.pictures import pixels, pixels_of_file
from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.pictures import SUFFIXES, check_pillow

__all__ = ["Batch", "Limits", "Samples", "open_samples"]

Limits = tuple[float, float]
_NAMES = ("x", "inputs", "images", "data")
_BYTES = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        names: of those that could be read.
        x: them, as the network takes them: a tensor, or its arguments by name.
        failed: (name, reason) of the others.
    """

    names: list[str]
    x: Any
    failed: list[tuple[str, str]]


class Samples:
    """Named samples that are read batch by batch.

    Args:
        names: one per sample.
        read: makes a batch of the samples from one number to another.
        remark: what the user should know of how they are read, or ``""``.
    """

    def __init__(
        self, names: Sequence[str], read: Callable[[int, int], Batch], remark: str = ""
    ) -> None:
        self.names, self.remark = list(names), remark
        self.read = read

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the samples, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.read(start, min(start + size, len(self)))


def open_samples(
    source: Any,
    preprocessing: Preprocessing,
    *,
    normalize: bool = True,
    limits: Limits | None = None,
    names: Sequence[str] = (),
) -> Samples:
    """Open what people have.

    Args:
        source: the path of an image, of a folder of images, or of an npy, npz or csv file; an
            array or tensor; a Pillow image; or a list of images, of their paths, or of arrays of
            one sample each.
        preprocessing: what the network takes.
        normalize: whether arrays are raw, to be normalized; False: they are as the network
            takes them, and pictures get no mean and deviation.
        limits: range of an array's numbers, if they are pixels; by default that of bytes or
            16-bit integers by their type, and the network's own for all others.
        names: of the array to take from an npz file; others are x, inputs, images and data, or
            the first.

    Raises:
        ConfigurationError: for what cannot be read or does not fit, with the reason.
    """
    if isinstance(source, (str, Path)):
        return _from_path(str(source), Path(source), preprocessing, normalize, limits, names)
    if isinstance(source, Tensor):
        source = source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        return _from_array(source, preprocessing, normalize, limits)
    if _is_picture(source):
        return _from_pictures(["0"], [source], preprocessing, normalize)
    if isinstance(source, (list, tuple)) and source:
        if all(isinstance(item, (str, Path)) for item in source):
            paths = [Path(item) for item in source]
            return _from_pictures(list(map(str, paths)), paths, preprocessing, normalize)
        if all(map(_is_picture, source)):
            names = [str(index) for index in range(len(source))]
            return _from_pictures(names, source, preprocessing, normalize)
        if all(isinstance(item, (np.ndarray, Tensor)) for item in source):
            return _from_array(_stacked(source), preprocessing, normalize, limits)
    raise ConfigurationError(
        f"images={type(source).__name__} cannot be used: give a path, an array, a picture, or a "
        "list of one kind of them that is not empty."
    )


def _is_picture(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "getexif")


def _stacked(arrays: Sequence[Any]) -> NDArray[Any]:
    plain = [np.asarray(a.detach().cpu() if isinstance(a, Tensor) else a) for a in arrays]
    shapes = sorted({a.shape for a in plain})
    require(len(shapes) == 1, "images", shapes, "arrays in a list must have one shape")
    return np.stack(plain)


def _from_path(
    path: str,
    source: Path,
    preprocessing: Preprocessing,
    normalize: bool,
    limits: Limits | None,
    names: Sequence[str],
) -> Samples:
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        require(bool(files), "input", path, "the folder holds no image")
        found = [str(file.relative_to(source)) for file in files]
        return _from_pictures(found, files, preprocessing, normalize)
    require(source.is_file(), "input", path, "there is no such file or folder")
    suffix = source.suffix.lower()
    if suffix in SUFFIXES:
        return _from_pictures([source.name], [source], preprocessing, normalize)
    if suffix in FILES:
        array = next(iter(arrays_in(source, (*names, *_NAMES)).values()))
        try:
            return _from_array(array, preprocessing, normalize, limits)
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(f"input={path!r} cannot be used: {error}") from error
    raise ConfigurationError(
        f"input={path!r} cannot be used: give images, a folder of images, npy, npz or csv."
    )


def _from_array(
    array: NDArray[Any], preprocessing: Preprocessing, normalize: bool, limits: Limits | None
) -> Samples:
    sound = array.ndim >= 1 and array.dtype.kind in "fiub"
    require(sound, "input", f"{array.dtype} {array.shape}", "it must hold numbers")
    try:
        array, remark = arranged(array, preprocessing.shape)
    except ConfigurationError:
        pictures = pictures_in(array, preprocessing.channels, preprocessing.size)
        if pictures is None or not normalize:
            raise
        names = [str(index) for index in range(len(pictures))]
        return _from_pictures(names, _lazily(pictures), preprocessing, normalize)
    names = [str(index) for index in range(len(array))]
    if preprocessing.integers:
        return Samples(names, lambda a, b: _whole_numbers(names[a:b], array[a:b]), remark)
    span = limits or _span(array, preprocessing)
    if normalize and span is not None:
        remark = "; ".join(filter(None, (remark, preprocessing.known_range()[1])))

    def read(start: int, end: int) -> Batch:
        part = np.array(array[start:end], dtype=np.float32)
        finite = np.isfinite(part).reshape(len(part), -1).all(1)
        failed = [(names[start + i], "it holds a number that is not finite")
                  for i in np.flatnonzero(~finite)]  # fmt: skip
        kept = [names[start + i] for i in np.flatnonzero(finite)]
        x = torch.from_numpy(part[finite])
        if normalize:
            if span is not None:
                low, high = span
                _check_within(x, span)
                x = preprocessing.scaled((x - low) / (high - low))
            elif preprocessing.range is not None and preprocessing.channels is not None:
                _check_within(x, preprocessing.range)
            x = preprocessing.normalized(x)
        return Batch(kept, x, failed)

    return Samples(names, read, remark)


def _span(array: NDArray[Any], preprocessing: Preprocessing) -> Limits | None:
    """Return what black and white are in an array of pixels by its type, None for all others."""
    if preprocessing.channels is None or array.dtype not in _BYTES:
        return None
    if preprocessing.range is not None and array.dtype == np.uint8:
        high = preprocessing.range[1]
        if 1 < high < 255 and array.size and 0 < int(array.max()) <= high:
            raise ConfigurationError(
                f"bytes of at most {int(array.max())} can be pixels of 0..255 or numbers of the "
                f"network's range, up to {high:g}: add pixels=0..255 or pixels=0..{high:g}."
            )
    return 0.0, _BYTES[array.dtype]


def _check_within(x: Tensor, span: Limits) -> None:
    """Refuse numbers that cannot be pixels of this range; interpolation may overshoot a little."""
    if not x.numel():
        return
    (low, high), (least, most) = span, (float(x.min()), float(x.max()))
    slack = 0.1 * (high - low)
    if low - slack <= least and most <= high + slack:
        return
    raise ConfigurationError(
        f"the numbers reach from {least:.4g} to {most:.4g}, pixels from {low:g} to {high:g}: "
        "add normalize=false if they are normalized already, or pixels=0..255 (what black and "
        "white are in the array)."
    )


def _whole_numbers(names: list[str], part: NDArray[Any]) -> Batch:
    whole = part.astype(np.int64) if np.isfinite(part).all() else None
    require(
        whole is not None and bool((whole == part).all()),
        "input",
        f"samples {names[0]} to {names[-1]}",
        "the network takes whole numbers",
    )
    return Batch(names, torch.from_numpy(whole), [])


class _lazily(Sequence[Any]):  # noqa: N801
    """Arrays of bytes as pictures, made when they are asked for."""

    def __init__(self, arrays: NDArray[Any]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image

        array = np.ascontiguousarray(self.arrays[index])
        return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _from_pictures(
    names: Sequence[str], pictures: Sequence[Any], preprocessing: Preprocessing, normalize: bool
) -> Samples:
    check_pillow()
    require(
        preprocessing.channels is not None,
        "input",
        names[0],
        "the network does not take images of one or three channels",
    )
    remark = preprocessing.known_range()[1]

    def read(start: int, end: int) -> Batch:
        found, kept, failed = [], [], []
        for index in range(start, end):
            picture, name = pictures[index], names[index]
            try:
                path = isinstance(picture, Path)
                found.append((pixels_of_file if path else pixels)(picture, preprocessing))
                kept.append(name)
            except ConfigurationError as error:
                failed.append((name, str(error)))
        if not found:
            return Batch([], torch.empty(0), failed)
        sizes = sorted({array.shape[1:] for array in found})
        require(
            len(sizes) == 1,
            "input",
            sizes,
            "pictures of several sizes need batch_size=1, or preprocessing that resizes",
        )
        x = preprocessing.scaled(torch.from_numpy(np.stack(found)))
        return Batch(kept, preprocessing.normalized(x) if normalize else x, failed)

    return Samples(names, read, remark)
