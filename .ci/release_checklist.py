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


def cited() -> str:
    """Return the version of CITATION.cff."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(r"^version: (.+)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def newest_change(text: str) -> str:
    """Return the first version that a changelog names, ``Unreleased`` among them."""
    found = re.search(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert found is not None
    return found[1]


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
        f"CITATION.cff says {number}": cited() == number,
        f"CHANGELOG.md's newest section is {number}": newest_change(changes) == number,
        f"no tag v{number} yet": git("tag", "--list", f"v{number}") == "",
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
