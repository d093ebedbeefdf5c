"""Modules that a recipe needs: where they are looked for, and their import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.extensions import import_modules
from ste_lightning.running.failures import RunError, described

__all__ = ["import_own", "own_folders_on_path"]


def own_folders_on_path() -> None:
    """Put the folder of ``--config-dir`` on the import path, in whatever process a job runs."""
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            folder = str(Path(source.path).resolve())
            if folder not in sys.path:
                sys.path.insert(0, folder)


def import_own(names: Sequence[str]) -> None:
    """Import the modules of the key ``imports``, which register rules and quantizers.

    Raises:
        ConfigurationError: for a module that is not found.
        RunError: for one that fails.
    """
    try:
        import_modules(names)
    except ConfigurationError:
        raise
    except Exception as error:
        raise RunError(f"imports={list(names)}: {described(error)}") from error
