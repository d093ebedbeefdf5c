"""The drawing library that a page carries: Vega-Lite, out of the package vl-convert-python."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import write_text

__all__ = ["NOT_INSTALLED", "drawing_library", "installed"]

NOT_INSTALLED = "vl-convert is not installed: pip install 'ste-lightning[report]'"


def installed() -> Any | None:
    """Return the package vl-convert, or None where it is not installed."""
    try:
        return importlib.import_module("vl_convert")
    except ImportError:
        return None


def drawing_library() -> str:
    """Return vega, vega-lite and vega-embed as JavaScript (0.9 MB).

    Putting it together takes vl-convert seconds, so it is kept in the user's cache.

    Raises:
        ConfigurationError: where vl-convert is not installed.
    """
    package = installed()
    if package is None:
        raise ConfigurationError(f"pages of results: {NOT_INSTALLED}.")
    kept = _cache() / f"vega-{package.__version__}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    # A closing tag in one of its strings would end the page's script.
    code = str(package.javascript_bundle()).replace("</script", "<\\/script")
    with suppress(ConfigurationError):  # no place to keep it: made again the next time
        write_text(kept, code)
    return code


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "ste_lightning"
