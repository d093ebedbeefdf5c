"""Image folders: one folder a class, pictures of any size and kind inside."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.pictures import SUFFIXES, opened, plain

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["fitted", "list_folder", "read_folder"]


def fitted(source: Path | IO[bytes], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return a picture as bytes (height, width, channels), resized to cover that and cut.

    Rotation by EXIF is applied, transparency lies on white, of 16 bits the upper 8 are kept.

    Args:
        source: path, or open binary file.
        size: (height, width).
        channels: 3 or 1.

    Raises:
        ConfigurationError: for what is no sound picture.
    """

    def use(image: Image) -> NDArray[np.uint8]:
        from PIL.Image import Resampling
        from PIL.ImageOps import fit

        image = fit(plain(image, channels == 1), (size[1], size[0]), Resampling.BILINEAR)
        array: NDArray[Any] = np.asarray(image)
        if array.dtype != np.uint8:  # 16 bits, as floats
            array = np.clip(array * (65535 / 256) + 1e-3, 0, 255).astype(np.uint8)
        return np.broadcast_to(array.reshape(*size, -1), (*size, channels))

    return opened(source, use)


def list_folder(folder: str | Path) -> tuple[list[Path], list[int], list[str]]:
    """Return the pictures of a folder of classes, their labels and the names of the classes.

    Args:
        folder: holds one folder a class, whose names in order are the classes.

    Raises:
        ConfigurationError: for a folder without classes or with an empty one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigurationError(f"root={str(folder)!r} cannot be used: there is no such folder.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < 2:
        raise ConfigurationError(
            f"root={str(folder)!r} cannot be used: put the pictures of each class into a folder of "
            f"its own, {folder}/CLASS/picture.png, two classes at least."
        )
    pictures: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise ConfigurationError(f"{folder / name} has no picture.")
        pictures += paths
        labels += [label] * len(paths)
    return pictures, labels, names


def read_folder(
    folder: str | Path, size: tuple[int, int], channels: int = 3
) -> tuple[Tensor, Tensor, list[str]]:
    """Read all pictures of a folder of classes, see :func:`list_folder` and :func:`fitted`.

    Args:
        folder: holds one folder a class, whose names in order are the classes.
        size: (height, width) of the result.
        channels: 3 for red, green, blue; 1 for grey.

    Returns:
        Images uint8 (N, channels, height, width), labels int64 (N,), names of the classes.

    Raises:
        ConfigurationError: for a folder without classes or with an empty one, and for a picture
            that cannot be read, with its name.
    """
    require(channels in (1, 3), "channels", channels, "use 3 for colours, 1 for grey")
    paths, labels, names = list_folder(folder)
    images = []
    for path in paths:
        try:
            images.append(fitted(path, size, channels))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(labels), names
