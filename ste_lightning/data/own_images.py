"""Anybody's own images: folders of pictures, arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ste_lightning.data.formats.arrays import read_arrays
from ste_lightning.data.formats.folders import list_folder, read_folder
from ste_lightning.data.images import ImageData, Labelled, picture_size
from ste_lightning.data.on_disk import PicturesOnDisk
from ste_lightning.errors import ConfigurationError, require

__all__ = ["Arrays", "ImageFolder"]


class ImageFolder(ImageData):
    """Anybody's pictures: ``root/train/CLASS/*.png`` and ``root/test/CLASS/*.png``.

    So is ImageNet laid out, with ``val`` instead of ``test``.

    Args:
        root: holds the folders ``train`` and ``test`` (or ``val``), each with one folder a class.
        size: (height, width) that pictures are brought to: the shorter side is resized, the middle
            is cut out.
        channels: 3 for colours, 1 for grey.
        in_memory: whether to hold all pictures in memory, as bytes of that size; else they are
            decoded batch by batch, which takes ``num_workers``, and mean and deviation are those
            of 2,048 pictures of the training part.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for missing folders, and for a picture that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        size: Sequence[int],
        channels: int = 3,
        in_memory: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root, self.size, self.channels = Path(root), picture_size(size, channels), channels
        self.in_memory = in_memory

    def _part(self, folder: Path) -> tuple[Labelled, list[str]]:
        if self.in_memory:
            pixels, labels, names = read_folder(folder, self.size, self.channels)
            return Labelled(pixels, labels), names
        paths, numbers, names = list_folder(folder)
        pictures = PicturesOnDisk(paths, self.size, self.channels)
        return Labelled(pictures, torch.tensor(numbers)), names

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both folders."""
        other = self.root / "test"
        if not other.is_dir() and (self.root / "val").is_dir():
            other = self.root / "val"
        (train, names), (test, others) = self._part(self.root / "train"), self._part(other)
        if names != others:
            different = sorted(set(names) ^ set(others))
            raise ConfigurationError(
                f"root={str(self.root)!r} cannot be used: train and {other.name} have different "
                f"classes ({', '.join(different[:5])})."
            )
        return train, test, tuple(names)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pictures become inputs (after ``setup``): as :meth:`read` reads them."""
        return {**super().preprocessing, "resize": "fit", "background": 255}


class Arrays(ImageData):
    """Images of an npz file: ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Args:
        path: the file; pixels are bytes, (N, height, width) or (N, channels, height, width).
        names: names of the classes; None: their numbers.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for missing arrays, other shapes or types.
    """

    def __init__(
        self, path: str | Path, names: Sequence[str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.path, self.names = path, names

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read the four arrays."""
        train, test = (Labelled(*read_arrays(self.path, part)) for part in ("train", "test"))
        same = train.images.shape[1:] == test.images.shape[1:]
        require(same, "path", str(self.path), "x_train and x_test have images of different sizes")
        low = min(int(part.labels.min()) for part in (train, test))
        count = max(int(part.labels.max()) for part in (train, test)) + 1
        require(low >= 0, "path", str(self.path), "labels count from 0")
        names = tuple(self.names) if self.names is not None else tuple(map(str, range(count)))
        require(len(names) >= count, "names", list(names), f"there are {count} classes")
        return train, test, names
