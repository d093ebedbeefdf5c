"""Pictures, from files or memory, as arrays of pixels."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "check_pillow", "opened", "pixels"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm",
                      ".ppm"})  # fmt: skip
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def check_pillow() -> None:
    """Refuse images where Pillow is not installed.

    Raises:
        ConfigurationError: without Pillow.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ConfigurationError("reading images needs Pillow: pip install pillow")


def opened(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the pixels of an image file, as :func:`pixels` does.

    Raises:
        ConfigurationError: for a file that is no sound image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return pixels(image, preprocessing)
    except ConfigurationError:
        raise
    except UnidentifiedImageError as error:
        raise ConfigurationError("it cannot be read as an image: its format is unknown") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"it cannot be read as an image: {error}") from error


def pixels(image: Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return a picture as the network sees it, (channels, height, width), black 0 and white 1.

    It is turned as its EXIF orientation says; transparent pixels show the background; 16 bits
    keep their precision; then it is resized and cropped.

    Args:
        image: a Pillow image of any mode.
        preprocessing: channels, sizes, interpolation and background.

    Raises:
        ConfigurationError: for a picture of floats, whose range nobody states.
    """
    from PIL import ImageOps
    from PIL.Image import alpha_composite, fromarray, new

    image = ImageOps.exif_transpose(image)
    grey = preprocessing.channels == "grey"
    if image.mode == "F":
        raise ConfigurationError("its pixels are floats of an unknown range: give them as npy")
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip them
        deep = np.asarray(image).astype(np.float32) / np.float32(65535)
        if deep.size and not 0 <= deep.min() <= deep.max() <= 1:
            raise ConfigurationError("its pixels have more than 16 bits: give them as npy")
        image = fromarray(deep)
    else:
        if image.mode in _TRANSPARENT or "transparency" in image.info:
            image = image.convert("RGBA")
            behind = new("RGBA", image.size, (*[preprocessing.background] * 3, 255))
            image = alpha_composite(behind, image)
        image = image.convert("L" if grey else "RGB")
    image = _cropped(_resized(image, preprocessing), preprocessing)
    array: NDArray[Any] = np.asarray(image)
    found = array.astype(np.float32)
    if array.dtype == np.uint8:
        found /= np.float32(255)
    if found.ndim == 2:
        return found[None] if grey else np.broadcast_to(found, (3, *found.shape))
    found = found.transpose(2, 0, 1)
    return found[::-1] if preprocessing.channels == "bgr" else found


def _resized(image: Image, preprocessing: Preprocessing) -> Image:
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    method = Resampling[preprocessing.interpolation.upper()]
    if preprocessing.fit and preprocessing.size is not None:
        return fit(image, preprocessing.size[::-1], method)
    resize, (width, height) = preprocessing.resize, image.size
    if resize is None:
        target = None if preprocessing.crop is not None else preprocessing.size
    elif len(resize) == 2:
        target = (resize[0], resize[1])
    else:  # the longer side is cut to a whole number, as torchvision does
        (short,) = resize
        long = int(short * max(width, height) / min(width, height))
        target = (long, short) if height > width else (short, long)
    if target is None or target == (height, width):
        return image
    return image.resize(target[::-1], method)


def _cropped(image: Image, preprocessing: Preprocessing) -> Image:
    """Cut around the centre; what is missing is black."""
    size, (width, height) = preprocessing.size, image.size
    if size is None or size == (height, width):
        return image
    top, left = (_start(have, wanted) for have, wanted in zip((height, width), size, strict=True))
    return image.crop((left, top, left + size[1], top + size[0]))


def _start(have: int, wanted: int) -> int:
    """Return where a crop begins, rounded as torchvision's ``CenterCrop``."""
    return round((have - wanted) / 2) if have >= wanted else -((wanted - have) // 2)
