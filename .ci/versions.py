"""The package's versions: where they stand, a new one, and their tags.

``python .ci/versions.py set X.Y.Z`` gives a version to what is unreleased; ``python .ci/versions.py
tags`` tags each version of CHANGELOG.md, where it has no tag, at the commit that brought it.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE, CITED, CHANGES = "ste_lightning/__init__.py", "CITATION.cff", "CHANGELOG.md"
_EMPTY = "## [Unreleased]\n"
_LINE = {
    PACKAGE: re.compile(r'^(__version__ = )"(.+)"$', re.M),
    CITED: re.compile(r"^(version: )(.+)$", re.M),
}
_DATE = re.compile(r"^(date-released: )(.+)$", re.M)
_HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.M)


def read(name: str) -> str:
    """Return the text of one of the repository's files."""
    return (ROOT / name).read_text(encoding="utf-8")


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def package() -> str:
    """Return the package's version."""
    return _LINE[PACKAGE].findall(read(PACKAGE))[0][1]


def cited() -> tuple[str, str]:
    """Return version and date of CITATION.cff."""
    text = read(CITED)
    return _LINE[CITED].findall(text)[0][1], _DATE.findall(text)[0][1]


def released(changes: str) -> list[tuple[str, str]]:
    """Return a changelog's versions and their dates, the newest first."""
    return _HEADING.findall(changes)


def unreleased(changes: str) -> list[str]:
    """Return the lines of a changelog that no version has yet, without headings."""
    part = changes.partition(_EMPTY)[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line and not line.startswith("#")]


def commit(number: str) -> str:
    """Return the commit that brought a version into CHANGELOG.md; empty where none did."""
    found = git("log", "--format=%H", "-S", f"\n## [{number}] - ", "--", CHANGES)
    return found.splitlines()[-1] if found else ""


def tagged(number: str) -> str:
    """Return the commit of a version's tag; empty where there is none."""
    tag = f"v{number}"
    return git("rev-parse", f"{tag}^{{commit}}") if git("tag", "--list", tag) else ""


def set_version(number: str, date: str) -> None:
    """Give what is unreleased a version, and write it wherever versions stand."""
    changes = read(CHANGES)
    if not unreleased(changes):
        raise SystemExit("nothing in CHANGELOG.md is unreleased")
    if not re.fullmatch(r"\d+\.\d+\.\d+", number) or number in dict(released(changes)):
        raise SystemExit(f"{number!r} is no new version of the form X.Y.Z")
    heading = f"{_EMPTY}\n## [{number}] - {date}\n"
    texts = {CHANGES: changes.replace(_EMPTY, heading)}
    for name, line in _LINE.items():
        quoted = f'"{number}"' if name == PACKAGE else number
        texts[name] = line.sub(rf"\g<1>{quoted}", read(name))
    texts[CITED] = _DATE.sub(rf"\g<1>{date}", texts[CITED])
    for name, text in texts.items():
        (ROOT / name).write_text(text, encoding="utf-8")


def set_tags() -> None:
    """Tag each version that has no tag."""
    for number, date in reversed(released(read(CHANGES))):
        if not tagged(number) and (found := commit(number)):
            git("tag", "-a", f"v{number}", found, "-m", f"ste_lightning {number}, {date}")
            print(f"v{number} at {found[:9]}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["set", number]:
            set_version(number, datetime.date.today().isoformat())
        case ["tags"]:
            set_tags()
        case _:
            raise SystemExit(__doc__)
