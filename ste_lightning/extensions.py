"""Modules of other people that register rules and quantizers when they are imported."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points

from ste_lightning.errors import ConfigurationError, require

__all__ = ["GROUP", "REMEDY", "import_modules", "load_installed"]

GROUP = "ste_lightning"
"""The entry-point group under which installed packages name their modules."""

REMEDY = "One of your own is known once its module is imported: imports=[module] in a recipe."


@functools.cache
def load_installed() -> None:
    """Import what installed packages offer under the entry-point group ``ste_lightning``, once.

    In a package's ``pyproject.toml``: ``[project.entry-points.ste_lightning]`` and
    ``my_rules = "my_package.rules"``. It happens when a rule or quantizer is asked for that is not
    there, or all of them are. One that fails is named in a warning; it may not be what is needed.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist is not None else "?"
            warnings.warn(
                f"{entry.value}, an extension of ste_lightning from the package {package}, cannot "
                f"be imported: {type(error).__name__}: {error}. Update or uninstall {package}.",
                stacklevel=3,
            )


def import_modules(names: Sequence[str]) -> None:
    """Import modules by name, as the key ``imports`` of a recipe asks for.

    Raises:
        ConfigurationError: for a module that is not found, with where it may be. What the module
            itself raises is passed on.
    """
    for name in names:
        dotted = isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
        require(dotted, "imports", name, "name modules, as package.module")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ConfigurationError(
                f"imports={name!r}: there is no module {error.name!r}. It is found in the current "
                f"folder, in the folder of --config-dir, and where PYTHONPATH says."
            ) from error
