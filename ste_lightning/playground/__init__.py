"""A page on which a student learns from its teacher, live: engine, scenes and drawing."""

from __future__ import annotations

import json

from ste_lightning.io.template import filled, packaged

__all__ = ["page"]

_SCRIPTS = (
    "problem", "engine", "scenes", "advice", "drawing", "controls", "told", "by_hand", "page",
)  # fmt: skip
_TABLE = ("ste_lightning.theory", "required_samples.json")


def page() -> str:
    """Return the playground as one HTML page that needs nothing beside it."""
    rows = json.dumps(json.loads(packaged(*_TABLE))["rows"])
    scripts = [f"const TABLE = {rows};"]
    scripts += [packaged(__name__, f"{name}.js") for name in _SCRIPTS]
    pieces = {
        "STYLE": packaged(__name__, "page.css"),
        "SCRIPTS": "\n".join(f"<script>\n{script}</script>" for script in scripts),
    }
    return filled(packaged(__name__, "page.html"), pieces)
