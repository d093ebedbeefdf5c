"""Pages of the notebooks: their text and code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["names", "pages"]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def names() -> dict[str, str]:
    """Return file name -> title, the first heading."""
    found = {}
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        heading = next(line for line in _page(file).splitlines() if line.startswith("# "))
        found[file.stem] = heading.removeprefix("# ")
    return found


def _page(file: Path) -> str:
    cells: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"]).strip()
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(part for part in parts if part)


def pages() -> dict[str, str]:
    """Return a page for each notebook, which links to the file."""
    found: dict[str, str] = {}
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        title, rest = _page(file).split("\n", 1)
        link = f"*Run it: [{file.name}]({file.name}) in Jupyter.*"
        found[f"notebooks/{file.stem}.md"] = f"{title}\n\n{link}\n{rest}\n"
    return found
