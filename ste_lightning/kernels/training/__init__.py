"""Compiled code that only training needs: sign masks, grids, codebooks, gradients by lookup.

A module is imported when it is first asked for: ``training.grids`` needs numba, whose import takes
a good part of a second, and reading this package does not.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return importlib.import_module(f"{__name__}.{name}")
