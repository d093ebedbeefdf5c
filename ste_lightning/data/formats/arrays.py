"""One's own images and labels as NumPy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError

__all__ = ["read_arrays"]


def read_arrays(path: str | Path, part: str) -> tuple[Tensor, Tensor]:
    """Read ``x_PART`` and ``y_PART`` of an npz file.

    Args:
        path: the file; nothing pickled in it is read.
        part: ``"train"`` or ``"test"``.

    Returns:
        Images uint8 (N, channels, height, width) and labels int64 (N,). Images may be
        (N, height, width), (N, channels, height, width) or, with 1 or 3 channels, channels last.

    Raises:
        ConfigurationError: for a missing array, other dimensions or types, or unequal lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            wanted = [f"x_{part}", f"y_{part}"]
            missing = [name for name in wanted if name not in names]
            if missing:
                raise ConfigurationError(
                    f"{path} has no array {missing[0]!r}, only {', '.join(names)}: write it by "
                    "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
                )
            images, labels = (file[name] for name in wanted)
    except (OSError, ValueError, EOFError, AttributeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path} is not an npz file of arrays: {error}.") from error
    if images.dtype != np.uint8:
        raise ConfigurationError(f"x_{part} has type {images.dtype}: write pixels as bytes, uint8.")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ConfigurationError(
            f"x_{part} has shape {images.shape}: write (N, height, width) or (N, channels, height, "
            "width) with 1 or 3 channels."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise ConfigurationError(
            f"y_{part} has type {labels.dtype} and shape {labels.shape}: write one whole number "
            f"for each of the {len(images)} images."
        )
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))
