"""What a release needs agrees already, and the checklist notices what does not."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("checklist", ROOT / ".ci" / "release_checklist.py")
checklist = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(checklist)

CHANGES = """# Changelog

## [Unreleased]

### Added
{}
## [0.2.0] - 2026-12-01

- something

## [0.1.0] - 2026-11-01
"""


def test_one_version_everywhere() -> None:
    import ste_lightning

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert checklist.version() == ste_lightning.__version__ == checklist.newest(changes)[0]
    assert checklist.cited() == checklist.newest(changes)


def test_what_a_changelog_says() -> None:
    assert checklist.newest(CHANGES.format("")) == ("0.2.0", "2026-12-01")
    assert checklist.unreleased(CHANGES.format("")) == []
    assert checklist.unreleased(CHANGES.format("- more\n")) == ["- more"]


def test_a_tag_elsewhere_is_no_tag_of_this_commit(monkeypatch) -> None:
    said = {
        "tag --list v1.0.0": "v1.0.0",
        "rev-parse v1.0.0^{commit}": "abc",
        "tag --list v2.0.0": "",
    }
    monkeypatch.setattr(checklist, "git", lambda *arguments: said[" ".join(arguments)])
    assert checklist.tagged("1.0.0") == "abc"
    assert checklist.tagged("2.0.0") == ""


def test_open_steps_are_shown(monkeypatch, capsys) -> None:
    monkeypatch.setattr(checklist, "git", lambda *arguments: "")
    monkeypatch.setattr(checklist, "version", lambda: "9.9.9")
    assert checklist.main() == 1
    printed = capsys.readouterr().out
    assert "[x] nothing is uncommitted" in printed
    assert "[ ] CHANGELOG.md's newest version is 9.9.9" in printed
    assert "git tag -s v9.9.9" in printed
