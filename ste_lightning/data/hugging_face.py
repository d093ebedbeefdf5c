"""Image data sets in folders of Hugging Face's ``datasets``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ste_lightning.data.formats.folders import fitted
from ste_lightning.data.formats.hugging_face import class_names, read_split
from ste_lightning.data.images import ImageData, Labelled, picture_size
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["HuggingFaceImages"]


class HuggingFaceImages(ImageData):
    """Images and labels of a folder that ``datasets`` wrote, or of parquet files of its hub.

    Args:
        root: the folder, see :func:`~ste_lightning.data.formats.hugging_face.read_split`; its
            pictures are stored inside the files, as ``datasets`` does by default.
        size: (height, width) that pictures are brought to.
        channels: 3 for colours, 1 for grey.
        image: name of the column with the pictures.
        label: name of the column with whole numbers from 0.
        test: the split that tests; ``train`` is trained on.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for missing splits and columns, and for pictures that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        size: Sequence[int],
        channels: int = 3,
        image: str = "image",
        label: str = "label",
        test: str = "test",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root, self.size, self.channels = Path(root), picture_size(size, channels), channels
        self.image, self.label, self.split = image, label, test

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both splits."""
        train, features = self._part("train")
        test, _ = self._part(self.split)
        largest = max(int(part.labels.max()) for part in (train, test))
        return train, test, class_names(features, self.label, largest)

    def _part(self, split: str) -> tuple[Labelled, Any]:
        table, features = read_split(self.root, split)
        for name in (self.image, self.label):
            if name not in table.column_names:
                raise unknown(f"column of {split}", name, table.column_names)
        images = []
        for number, cell in enumerate(table[self.image].to_pylist()):
            where = f"{self.root}, {split}, row {number}"
            stored = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(stored, bytes):
                raise ConfigurationError(f"{where}: its picture is not stored in the file.")
            try:
                images.append(fitted(io.BytesIO(stored), self.size, self.channels))
            except ConfigurationError as error:
                raise ConfigurationError(f"{where}: {error}.") from error
        labels = np.array(table[self.label].to_pylist())
        fits = labels.dtype.kind in "iu" and len(labels) > 0 and labels.min() >= 0
        require(fits, "label", self.label, f"{split} needs whole numbers from 0 there")
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return Labelled(pixels, torch.from_numpy(labels.astype(np.int64))), features

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pictures become inputs (after ``setup``): as :meth:`read` reads them."""
        return {**super().preprocessing, "resize": "fit", "background": 255}
