"""A page on which a student learns from its teacher, live: engine, scenes and drawing."""

from __future__ import annotations

import json

from ste_lightning.io.template import filled, packaged

__all__ = ["page"]

_THEORY = "ste_lightning.theory"


def page() -> str:
    """Return the playground as one HTML page that needs nothing beside it."""
    pieces = {
        "STYLE": packaged(__name__, "page.css"),
        "ENGINE": packaged(__name__, "engine.js"),
        "SCENES": packaged(__name__, "scenes.js"),
        "ADVICE": packaged(__name__, "advice.js"),
        "TABLE": json.dumps(json.loads(packaged(_THEORY, "required_samples.json"))["rows"]),
        "DRAWING": packaged(__name__, "drawing.js"),
        "SCRIPT": packaged(__name__, "page.js"),
    }
    return filled(packaged(__name__, "page.html"), pieces)
