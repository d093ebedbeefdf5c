"""Files that a run, a sweep or a study has left: read whole, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ste_lightning.errors import ConfigurationError
from ste_lightning.running import files

__all__ = ["read_json", "read_yaml", "results_of", "settings_of"]


def results_of(folder: Path) -> dict[str, Any]:
    """Return a finished run's results.json.

    Raises:
        ConfigurationError: where it is missing, damaged, or another kind of file.
    """
    return read_json(folder / files.RESULTS, "metrics", "overrides", "seconds", "seed")


def settings_of(folder: Path) -> dict[str, Any]:
    """Return a run's settings; see :func:`results_of`."""
    return read_yaml(folder / files.CONFIG, "data", "model", "trainer")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return a JSON file's mapping.

    Args:
        path: the file.
        keys: that it must have.

    Raises:
        ConfigurationError: where it is missing, damaged, or another kind of file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return _checked(path, found, keys)


def read_yaml(path: Path, *keys: str, resolve: bool = True) -> dict[str, Any]:
    """Return a YAML file's mapping; see :func:`read_json`.

    Args:
        path: the file.
        keys: that it must have.
        resolve: whether references like ``${seed}`` are replaced.
    """
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=resolve)
    except Exception as error:  # of the file system, the text's coding, yaml and omegaconf
        raise _unreadable(path, error) from error
    return _checked(path, found, keys)


def _checked(path: Path, found: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} cannot be used: it holds no mapping of settings.")
    missing = [key for key in keys if key not in found]
    if missing:
        raise ConfigurationError(
            f"{path} cannot be used: it has no {', '.join(missing)}. Is it a file of this package?"
        )
    return found


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = " ".join(reason.split())[:200]
    return ConfigurationError(
        f"{path} cannot be read: {said}. Name a folder whose files are whole, or make them again."
    )
