"""Pictures of any kind, from files or memory, as plain grey or colour images."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np

from ste_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "check_pillow", "opened", "plain"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm",
                      ".ppm"})  # fmt: skip
_MOST_PIXELS = 1 << 26  # as 8192 x 8192; decoding takes up to four bytes of each
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")

Result = TypeVar("Result")


def check_pillow() -> None:
    """Refuse images where Pillow is not installed.

    Raises:
        ConfigurationError: without Pillow.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ConfigurationError("reading images needs Pillow: pip install pillow")


def opened(source: Path | IO[bytes], use: Callable[[Image], Result]) -> Result:
    """Return what ``use`` makes of the picture in a file.

    Args:
        source: the path, or an open binary file.
        use: called with the picture while the file is open.

    Raises:
        ConfigurationError: for a file that is no sound image, or of more than 2^26 pixels,
            without its name.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            width, height = image.size
            if width * height > _MOST_PIXELS:
                raise ConfigurationError(
                    f"it has {width} x {height} pixels, more than {_MOST_PIXELS >> 20} Mi: make it "
                    "smaller"
                )
            return use(image)
    except ConfigurationError:
        raise
    except UnidentifiedImageError as error:
        raise ConfigurationError("it cannot be read as an image: its format is unknown") from error
    except Exception as error:  # damaged files make Pillow's readers raise errors of any kind
        raise ConfigurationError(f"it cannot be read as an image: {error}") from error


def plain(image: Image, grey: bool, background: int = 255) -> Image:
    """Return a picture in 8 bits, grey or red-green-blue; of 16 bits as floats in 0..1.

    It is turned as its EXIF orientation says; transparent pixels show the background.

    Args:
        image: a Pillow image of any mode.
        grey: whether one channel is wanted; floats have one in any case.
        background: grey level 0..255 behind transparent pixels.

    Raises:
        ConfigurationError: for a picture of floats, whose range nobody states, and for one of more
            than 16 bits.
    """
    from PIL import ImageOps
    from PIL.Image import alpha_composite, fromarray, new

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ConfigurationError("its pixels are floats of an unknown range: give them as npy")
    if image.mode.startswith("I"):  # Pillow's own conversion would clip them
        deep = np.asarray(image).astype(np.float32) / np.float32(65535)
        if deep.size and not 0 <= deep.min() <= deep.max() <= 1:
            raise ConfigurationError("its pixels have more than 16 bits: give them as npy")
        return fromarray(deep)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        behind = new("RGBA", image.size, (*[background] * 3, 255))
        image = alpha_composite(behind, image)
    return image.convert("L" if grey else "RGB")
