"""Write docs/compatibility.md from the outcomes of this folder's tests.

    python tests/compatibility/table.py

A module's docstring is the title of a part, a test's docstring its row.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

__all__ = ["DOCUMENT", "Row", "digest", "document", "rows"]

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs" / "compatibility.md"
HEAD = """# What works together

Each row is a test of `tests/compatibility`, which trains, resumes, compiles or deploys a small
network and compares numbers. `make compatibility` runs them, the slow ones too, and writes this
page; the normal tests check that it is of these tests and of the pinned versions.

Last run: {versions}, tests {tests}.
"""


class Row(NamedTuple):
    """A test: the part it stands in, what it shows, and its name."""

    part: str
    shows: str
    test: str


def rows() -> Iterator[Row]:
    """Yield all tests of this folder, in the order of the page."""
    for file in sorted(FOLDER.glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        part = (ast.get_docstring(tree) or file.stem).splitlines()[0].rstrip(".")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                fallback = node.name.removeprefix("test_").replace("_", " ")
                shows = " ".join((ast.get_docstring(node) or fallback).split("\n\n")[0].split())
                yield Row(part, shows.rstrip("."), f"{file.stem}.{node.name}")


def digest() -> str:
    """Return what tells these tests from others: a hash of their sources."""
    sources = [file.read_bytes() for file in sorted(FOLDER.glob("*.py"))]
    return hashlib.sha256(b"\n".join(sources)).hexdigest()[:12]


def document(outcomes: dict[str, str], versions: str) -> str:
    """Return the page.

    Args:
        outcomes: by test, as in :class:`Row`.
        versions: of what they were run with.
    """
    lines, part = [HEAD.format(versions=versions, tests=digest())], None
    for row in rows():
        if row.part != part:
            part = row.part
            lines += ["", f"## {part}", "", "| what | outcome | test |", "|---|---|---|"]
        lines.append(f"| {row.shows} | {outcomes.get(row.test, 'not run')} | `{row.test}` |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


class Outcomes:
    """A plugin of pytest: the worst outcome of each test's cases."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep a case's outcome: a failure, else a reason to skip, else that it passed."""
        name = f"{Path(report.nodeid.split('::')[0]).stem}.{report.nodeid.split('::')[1]}"
        name = name.split("[")[0]
        if report.failed:
            self.found[name] = "**fails**"
        elif hasattr(report, "wasxfail") and report.skipped:
            self.found[name] = f"not yet: {report.wasxfail}"
        elif report.skipped:
            self.found.setdefault(name, f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}")
        elif report.when == "call" and not self.found.get(name, "").startswith(("**", "not")):
            self.found[name] = "passes"


def main() -> int:
    """Run the tests and write the page; return how many tests failed."""
    import lightning
    import torch

    outcomes = Outcomes()
    pytest.main([str(FOLDER), "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"], [outcomes])
    versions = f"torch {torch.__version__.split('+')[0]}, lightning {lightning.__version__}, "
    versions += f"Python {platform.python_version()}"
    DOCUMENT.write_text(document(outcomes.found, versions), encoding="utf-8")
    return sum(found == "**fails**" for found in outcomes.found.values())


if __name__ == "__main__":
    sys.exit(main())
