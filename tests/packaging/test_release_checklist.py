"""What a release needs agrees already, and the checklist notices what does not."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("checklist", ROOT / ".ci" / "release_checklist.py")
checklist = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(checklist)


def test_one_version_everywhere() -> None:
    import ste_lightning

    assert checklist.version() == ste_lightning.__version__ == checklist.cited()


def test_the_newest_section_of_a_changelog() -> None:
    assert (
        checklist.newest_change("# Changelog\n\n## [0.2.0] - 2026-12-01\n\n## [0.1.0]\n") == "0.2.0"
    )
    newest = checklist.newest_change((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert newest in ("Unreleased", checklist.version())


def test_open_steps_are_shown(monkeypatch, capsys) -> None:
    monkeypatch.setattr(checklist, "git", lambda *arguments: "")
    monkeypatch.setattr(checklist, "version", lambda: "9.9.9")
    assert checklist.main() == 1
    printed = capsys.readouterr().out
    assert "[x] nothing is uncommitted" in printed
    assert "[ ] CITATION.cff says 9.9.9" in printed
    assert "git tag -s v9.9.9" in printed
