"""Checkpoints are read without unpickling, and no message advises to unpickle them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from ste_lightning.errors import ConfigurationError

__all__ = ["read_checkpoint"]


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return a checkpoint's content: tensors and plain data.

    Args:
        path: the file.
        map_location: where its tensors go, as in ``torch.load``.

    Raises:
        FileNotFoundError: if there is none.
        ConfigurationError: if it is damaged, or holds objects that are not data.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content = torch.load(path, map_location=map_location, weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except pickle.UnpicklingError as error:
        # torch proposes here to load it with weights_only=False, which runs what it contains
        raise ConfigurationError(
            f"{path} cannot be used as a checkpoint: it is damaged, or holds objects other than "
            "tensors and plain data, which could run code; save such objects elsewhere."
        ) from error
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # torch has no class for damaged files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"{path} cannot be used as a checkpoint: it is damaged ({reason}). "
            "Name another, as best.ckpt or last.ckpt beside it."
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} cannot be used as a checkpoint: it holds a {type(content).__name__}."
        )
    return content
