"""CIFAR-10 and CIFAR-100, from the authors' archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ste_lightning.data.formats.cifar import CIFAR_FILES, read_cifar
from ste_lightning.data.images import ImageData, Labelled
from ste_lightning.errors import ConfigurationError, require

__all__ = ["CIFAR10", "CIFAR100"]


class CIFAR10(ImageData):
    """Colour pictures of 10 kinds of things, 50,000 and 10,000 of 32 x 32.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).

    Args:
        root: holds ``cifar-10-batches-py`` or ``cifar-10-batches-bin`` (for CIFAR-100
            ``cifar-100-python`` or ``cifar-100-binary``), or is that folder.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for a missing or broken file, with its name.
    """

    count = 10
    names: tuple[str, ...] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(self, root: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both parts."""
        folders = [name for name, *_ in CIFAR_FILES[self.count]]
        remedy = f"data.root=FOLDER that holds {' or '.join(folders)}, as the authors' archive does"
        require(self.root is not None, "root", self.root, f"give {remedy}")
        for name, train, test in CIFAR_FILES[self.count]:
            for folder in (Path(str(self.root)) / name, Path(str(self.root))):
                if (folder / train[0]).is_file():
                    parts = (self._part(folder, files) for files in (train, test))
                    return *parts, self.names  # type: ignore[return-value]
        raise ConfigurationError(f"root={str(self.root)!r} cannot be used: give {remedy}.")

    def _part(self, folder: Path, files: Sequence[str]) -> Labelled:
        images, labels = zip(*(read_cifar(folder / f, self.count) for f in files), strict=True)
        return Labelled(torch.cat(images), torch.cat(labels))


class CIFAR100(CIFAR10):
    """Colour pictures of 100 kinds of things, 50,000 and 10,000 of 32 x 32; see CIFAR10."""

    count = 100
    names = tuple(f"class {i}" for i in range(100))
