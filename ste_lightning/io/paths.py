"""Where the configuration files are: inside an installed package or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CONF", "RECIPES"]

_PACKAGE = Path(__file__).resolve().parents[1]


def _folder(name: str) -> Path:
    # The wheel's own copy comes first: site-packages/conf may belong to another project.
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


CONF = _folder("conf")
"""Hydra's config groups: model, data, quantizer, optimizer, trainer, callbacks, logger."""

RECIPES = _folder("recipes")
"""The shipped recipes, one flat file each."""
