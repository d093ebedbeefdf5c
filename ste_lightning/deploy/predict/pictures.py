"""Pictures, from files or memory, as arrays of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.io.pictures import opened, plain

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["pixels", "pixels_of_file"]


def pixels_of_file(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the pixels of an image file, as :func:`pixels` does.

    Raises:
        ConfigurationError: for a file that is no sound image.
    """
    return opened(path, lambda image: pixels(image, preprocessing))


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
    grey = preprocessing.channels == "grey"
    image = plain(image, grey, preprocessing.background)
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
