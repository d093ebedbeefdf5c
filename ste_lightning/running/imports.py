"""Modules that a recipe needs: where they are looked for, and their import."""

from __future__ import annotations

import filecmp
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.extensions import import_modules
from ste_lightning.running.failures import RunError, described
from ste_lightning.running.stopping import TERMINATED

__all__ = ["import_own", "own_folders_on_path", "refuse_hidden"]


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
        ConfigurationError: for a module that is not found, or hidden.
        RunError: for one that fails, or would end the process.
    """
    try:
        import_modules(names)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == TERMINATED:
            raise
        raise RunError(f"imports={list(names)}: {described(error)}") from error
    for name in names:
        refuse_hidden("imports", name)


def refuse_hidden(where: str, name: str) -> None:
    """Refuse a module in place of which another one of its name and other text is imported.

    Raises:
        ConfigurationError: with both files.
    """
    top = name.partition(".")[0]
    used = getattr(sys.modules.get(top), "__file__", None)
    found = importlib.machinery.PathFinder.find_spec(top)
    if used is None or found is None or found.origin is None:
        return
    if not (os.path.isfile(used) and os.path.isfile(found.origin)):
        return
    if not filecmp.cmp(used, found.origin, shallow=False):
        raise ConfigurationError(
            f"{where}={name!r}: {found.origin} is hidden by a module of the same name, {used}: "
            f"rename it."
        )
