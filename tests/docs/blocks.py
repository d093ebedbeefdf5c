"""The blocks of code of README and documentation, page by page.

A comment above a block says what is special: ``<!-- needs: torchao -->`` runs where that is
installed, ``<!-- by: .venv-keras -->`` by that environment's Python (``tests/peers``).
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]+?) -->\n)?^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block, its language, the line at which it stands, and the comment above it."""

    page: Path
    line: int
    kind: str
    text: str
    note: str


def blocks(page: Path, kind: str) -> list[Block]:
    """Return a page's blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: m.start("text")].count("\n") + 1, m["kind"], m["text"], m["note"] or "")
        for m in _BLOCK.finditer(text)
        if m["kind"] == kind
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(page: Path) -> list[tuple[Block, str]]:
    """Return the lines of a page's shell blocks, continued lines joined."""
    found = []
    for block in (b for kind in ("sh", "bash") for b in blocks(page, kind)):
        joined = block.text.replace("\\\n", " ")
        found += [(block, line.split(" #")[0].strip()) for line in joined.splitlines()]
    return [(block, line) for block, line in found if line and not line.startswith("#")]
