"""What a release needs agrees already, and the checklist notices what does not."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / ".ci"))
checklist = importlib.import_module("release_checklist")
versions = importlib.import_module("versions")

CHANGES = """# Changelog

## [Unreleased]

### Added
{}
## [0.2.0] - 2026-12-01

- something

## [0.1.0] - 2026-11-01
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A repository of two versions; the second has a line more than its commit brought."""
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "A")
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")
    (tmp_path / "ste_lightning").mkdir()
    for name, quoted in ((versions.PACKAGE, '"0.2.0"'), (versions.CITED, "0.2.0")):
        text = (ROOT / name).read_text(encoding="utf-8")  # of whichever version it is now
        (tmp_path / name).write_text(versions._LINE[name].sub(rf"\g<1>{quoted}", text))
    versions.git("init", "--quiet")
    first = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-11-01\n"
    for text in (first, CHANGES.format(""), CHANGES.format("- more\n")):
        (tmp_path / versions.CHANGES).write_text(text)
        versions.git("add", ".")
        versions.git("commit", "--quiet", "-m", "change")
    return tmp_path


def test_one_version_everywhere() -> None:
    import ste_lightning

    newest = versions.released(versions.read(versions.CHANGES))[0]
    assert versions.package() == ste_lightning.__version__ == newest[0]
    assert versions.cited() == newest


def test_what_a_changelog_says() -> None:
    found = versions.released(CHANGES.format(""))
    assert found == [("0.2.0", "2026-12-01"), ("0.1.0", "2026-11-01")]
    assert versions.unreleased(CHANGES.format("")) == []
    assert versions.unreleased(CHANGES.format("- more\n")) == ["- more"]


def test_a_new_version_stands_everywhere(project) -> None:
    versions.set_version("0.3.0", "2027-01-02")
    changes = versions.read(versions.CHANGES)
    assert versions.package() == "0.3.0"
    assert versions.cited() == versions.released(changes)[0] == ("0.3.0", "2027-01-02")
    assert versions.unreleased(changes) == []
    assert "## [0.3.0] - 2027-01-02\n\n### Added\n- more\n" in changes
    with pytest.raises(SystemExit, match="is unreleased"):
        versions.set_version("0.4.0", "2027-01-02")


@pytest.mark.parametrize("number", ["0.2.0", "1.0", "v1.0.0"])
def test_no_version_that_is_known_or_none(project, number) -> None:
    with pytest.raises(SystemExit, match="is no new version"):
        versions.set_version(number, "2027-01-02")


def test_tags_are_at_the_commits_of_their_versions(project) -> None:
    versions.set_tags()
    commits = versions.git("log", "--reverse", "--format=%H").splitlines()
    assert [versions.tagged(number) for number in ("0.1.0", "0.2.0")] == commits[:2]
    assert versions.tagged("0.3.0") == versions.commit("0.3.0") == ""
    assert checklist.checks()["each tag that is here is at the commit of its version"]
    versions.git("tag", "--force", "v0.2.0")
    versions.set_tags()  # moves none
    assert not checklist.checks()["each tag that is here is at the commit of its version"]


def test_open_steps_are_shown(project, capsys) -> None:
    assert checklist.main() == 1
    printed = capsys.readouterr().out
    assert "[x] nothing is uncommitted" in printed
    assert f"[ ] CHANGELOG.md's newest version is {versions.package()}" not in printed
    assert "[ ] nothing in CHANGELOG.md is unreleased" in printed
    assert "[ ] wheel and sdist are built" in printed


def test_without_arguments_it_says_how() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / ".ci/versions.py"], capture_output=True, text=True
    )
    assert made.returncode == 1
    assert "set X.Y.Z" in made.stderr
