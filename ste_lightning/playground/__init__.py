"""A page on which a student learns from its teacher, live: engine, scenes and drawing."""

from __future__ import annotations

from importlib import resources

__all__ = ["page"]


def page() -> str:
    """Return the playground as one HTML page that needs nothing beside it."""
    pieces = {
        "STYLE": _file("page.css"),
        "ENGINE": _file("engine.js"),
        "SCENES": _file("scenes.js"),
        "SCRIPT": _file("page.js"),
    }
    return "".join(pieces.get(piece, piece) for piece in _file("page.html").split("@@"))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
