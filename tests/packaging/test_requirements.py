"""Declared bounds are the ones that run; the release's tools are pinned by hash."""

import re
import tomllib
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if re.match(r"[a-z]", line))


def test_lower_bounds_are_what_the_oldest_run_installs() -> None:
    study = PROJECT["optional-dependencies"]["study"]
    found = {}
    for requirement in PROJECT["dependencies"] + study:
        name, bound = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        found[name] = bound
    oldest = pins("constraints-oldest.txt")
    assert found.keys() == oldest.keys()
    for name, bound in found.items():
        assert Version(oldest[name]) == Version(bound), name


def test_malicious_releases_are_excluded() -> None:
    (lightning,) = (r for r in PROJECT["dependencies"] if r.startswith("lightning"))
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning


def test_every_tool_of_a_release_has_hashes() -> None:
    lock = (ROOT / "release.lock").read_text()
    hashed = set(re.findall(r"^([\w.-]+)==[^\n]*\\\n    --hash=sha256:\w{64}", lock, re.MULTILINE))
    locked, pinned = pins("release.lock"), pins("constraints.txt")
    assert hashed == locked.keys()
    for name in ("build", "hatchling", "twine"):
        assert locked[name] == pinned[name]


def test_the_torch_that_pages_install_is_the_pinned_one() -> None:
    pinned = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    for page in ("README.md", "docs/get_started.md"):
        line = f"pip install {pinned[0]} --index-url https://download.pytorch.org/whl/cpu"
        assert line in (ROOT / page).read_text(encoding="utf-8"), page
