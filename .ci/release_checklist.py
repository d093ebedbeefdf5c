"""What must hold before a version is tagged: run by ``make release-check``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version() -> str:
    """Return the package's version."""
    text = (ROOT / "ste_lightning" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def cited() -> tuple[str, str]:
    """Return version and date of CITATION.cff."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^(version|date-released): (.+)$", text, re.MULTILINE))
    return entries["version"], entries["date-released"]


def newest(changes: str) -> tuple[str, str]:
    """Return a changelog's newest version and its date."""
    found = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def unreleased(changes: str) -> list[str]:
    """Return the lines of a changelog that no version has yet, without headings."""
    part = changes.partition("## [Unreleased]")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line and not line.startswith("#")]


def tagged(number: str) -> str:
    """Return the commit of a version's tag; empty where there is none."""
    tag = f"v{number}"
    return git("rev-parse", f"{tag}^{{commit}}") if git("tag", "--list", tag) else ""


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def checks() -> dict[str, bool]:
    """Return every step and whether it is done."""
    number = version()
    built = [path.name for path in (ROOT / "dist").glob("*")]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return {
        "nothing is uncommitted": git("status", "--porcelain") == "",
        f"CHANGELOG.md's newest version is {number}": newest(changes)[0] == number,
        "nothing in CHANGELOG.md is unreleased": not unreleased(changes),
        f"CITATION.cff says {number} and the changelog's date": cited() == newest(changes),
        f"no tag v{number} yet, or it is here": tagged(number) in ("", git("rev-parse", "HEAD")),
        "wheel and sdist are built": sum(number in name for name in built) == 2,
        "the bill of materials is there": "sbom.cdx.json" in built,
        "the documentation is built": (ROOT / "site" / "index.html").is_file(),
    }


BY_HAND = """Left to you:
  - read the changelog once as a user of the version before: is every removal and new default in it?
  - incompatible changes raise the first number (the second, before 1.0), features the second
  - make test-oldest, make test-newest, make test-slow
  - git tag -s v{version}, push it, upload dist/"""


def main() -> int:
    """Print the checklist; 1 where something is missing."""
    found = checks()
    for step, done in found.items():
        print("[x]" if done else "[ ]", step)
    print(BY_HAND.format(version=version()))
    return int(not all(found.values()))


if __name__ == "__main__":
    sys.exit(main())
