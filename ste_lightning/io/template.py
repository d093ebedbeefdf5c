"""Pages that are put together from files of the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

__all__ = ["filled", "packaged"]


def packaged(package: str, name: str) -> str:
    """Return the text of a file that lies beside a package's modules."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def filled(template: str, pieces: Mapping[str, str]) -> str:
    """Return a template with every ``@@NAME@@`` replaced; what comes in is not looked through."""
    return "".join(pieces.get(piece, piece) for piece in template.split("@@"))
