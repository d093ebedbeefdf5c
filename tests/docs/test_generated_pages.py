"""What `make docs` writes about rules, quantizers and recipes: complete, and its examples run."""

import re
import sys
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs" / "site"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.syspath_prepend(SITE)
    import quantizer_notes
    import quantizer_pages
    import recipe_pages
    import rule_notes
    import rule_pages

    yield {"rules": (rule_pages, rule_notes), "quantizers": (quantizer_pages, quantizer_notes),
           "recipes": recipe_pages}  # fmt: skip
    for name in [n for n, m in sys.modules.items() if str(SITE) in str(getattr(m, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", ["rules", "quantizers"])
def test_every_one_has_notes_and_an_example_that_runs(site, kind, capsys) -> None:
    pages, notes = site[kind]
    assert set(pages.names()) == notes.NOTES.keys()
    for name in pages.names():
        exec(pages.example(name), {})
        assert all(note.endswith(".") for note in notes.NOTES[name]), name
        assert len(notes.NOTES[name]) == 2
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(pages.names())


def test_results_are_found(site) -> None:
    import measured

    _, notes = site["quantizers"]
    known = measured.accuracies("digits")
    assert {setting for setting, _ in notes.RESULTS.values()} <= known.keys()
    assert re.match(r"0\.99\d\d \[.*\] over 5 seeds; [+-]0", measured.difference("digits", "W1A2"))
    assert measured.difference("digits", "nothing") == ""


def test_every_recipe_is_described(site) -> None:
    page = site["recipes"].pages()["recipes.md"]
    for file in (SITE.parents[1] / "recipes").rglob("*.yaml"):
        assert f"\n### {file.stem}\n" in page
    assert "- **Shows.** with N = 2048 noisy samples" in page
    assert page.count("- **Time.**") >= 40
    parts = {part.partition("\n")[0]: part for part in page.split("\n### ")[1:]}
    bare = {name for name, part in parts.items() if "](images/" not in part}
    reason = re.compile(r"\*(No picture|It draws no figure)")
    assert all(reason.search(parts[name]) for name in bare)
    assert len(bare) < len(parts) / 3
