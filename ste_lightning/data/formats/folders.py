"""Image folders: one folder a class, pictures of any size and kind inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require

__all__ = ["read_folder"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}


def read_folder(
    folder: str | Path, size: tuple[int, int], channels: int = 3
) -> tuple[Tensor, Tensor, list[str]]:
    """Read all pictures of a folder of classes.

    The shorter side of a picture is brought to the wanted one and the middle is cut out;
    rotation by EXIF is applied, transparency lies on white.

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
    from PIL import Image, ImageOps

    require(channels in (1, 3), "channels", channels, "use 3 for colours, 1 for grey")
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigurationError(f"root={str(folder)!r} cannot be used: there is no such folder.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < 2:
        raise ConfigurationError(
            f"root={str(folder)!r} cannot be used: put the pictures of each class into a folder of "
            f"its own, {folder}/CLASS/picture.png, two classes at least."
        )
    images, labels = [], []
    for label, name in enumerate(names):
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in _ENDINGS)
        if not paths:
            raise ConfigurationError(f"{folder / name} has no picture.")
        for path in paths:
            try:
                with Image.open(path) as found:
                    image = ImageOps.exif_transpose(found)
                    if image.mode == "F":
                        raise ValueError("its pixels are floats of an unknown range")
                    if image.mode.startswith("I"):  # 16 bits, which Pillow itself would clip
                        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                    if image.has_transparency_data:
                        image = image.convert("RGBA")
                        white = Image.new("RGBA", image.size, "white")
                        image = Image.alpha_composite(white, image)
                    image = image.convert("RGB" if channels == 3 else "L")
                    image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
                    images.append(np.asarray(image).reshape(*size, channels))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise ConfigurationError(f"{path} cannot be read: {error}.") from error
            labels.append(label)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(labels), names
