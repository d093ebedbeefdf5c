"""Checkpoints named on the command line, and what to say when they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.running import files
from ste_lightning.running.metrics_file import Row, rows_until

__all__ = ["explained", "loadable", "rows_before"]


def loadable(ckpt_path: str | None, needed: bool) -> str | None:
    """Return the checkpoint's path after making sure that it is one.

    Args:
        ckpt_path: the path the user gave, or None.
        needed: whether the run cannot do without.

    Raises:
        ConfigurationError: if it is missing or not a Lightning checkpoint.
    """
    if ckpt_path is None:
        require(not needed, "ckpt_path", ckpt_path, "name the checkpoint to test")
        return None
    require(Path(ckpt_path).is_file(), "ckpt_path", ckpt_path, "there is no such file")
    _read(ckpt_path)
    return ckpt_path


def rows_before(ckpt_path: str | None) -> list[Row]:
    """Return what the run of a checkpoint had logged until then, so that curves are whole."""
    if ckpt_path is None:
        return []
    logged = Path(ckpt_path).parent.parent / files.METRICS
    return rows_until(logged, int(_read(ckpt_path)["global_step"]))


def _read(path: str) -> dict[str, Any]:
    content = read_checkpoint(path)
    require(
        "state_dict" in content,
        "ckpt_path",
        path,
        "it is not a Lightning checkpoint",
    )
    return content


@contextmanager
def explained(ckpt_path: str | None, model: L.LightningModule) -> Iterator[None]:
    """Turn a failed load of another architecture's checkpoint into a ConfigurationError."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        if ckpt_path is None or isinstance(error, ConfigurationError):
            raise
        difference = _difference(_read(ckpt_path)["state_dict"], model.state_dict())
        if difference is None:
            raise
        raise ConfigurationError(
            f"ckpt_path={ckpt_path!r} cannot be used: it was made by another architecture; "
            f"{difference}. Use the model settings it was trained with."
        ) from error


def _difference(saved: dict[str, Any], ours: dict[str, Any]) -> str | None:
    for name, value in ours.items():
        if name not in saved:
            return f"it has no {name!r}"
        if saved[name].shape != value.shape:
            return (
                f"{name!r} has shape {tuple(saved[name].shape)} there and "
                f"{tuple(value.shape)} in this model"
            )
    extra = next((name for name in saved if name not in ours), None)
    return None if extra is None else f"it has {extra!r}, which this model lacks"
