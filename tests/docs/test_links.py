"""Every link between the Markdown files leads somewhere, and every page can be found."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from docs.blocks import PAGES as PUBLISHED
from docs.blocks import ROOT, prose

DOCS = ROOT / "docs"
GENERATED = ("rules", "quantizers", "api", "notebooks")  # by docs/site, in the build
PAGES = [*PUBLISHED, ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return what `page.md#ANCHOR` may name, as MkDocs and GitHub make it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r" +", "-", heading.strip()) for heading in plain}


def names(page: Path) -> bool:
    """Return whether the documentation's build makes the page."""
    if not page.is_relative_to(DOCS):
        return False
    where = page.relative_to(DOCS)
    made = {"recipes.md", "changelog.md", "contributing.md"}
    if where.parts[0] not in GENERATED:
        return str(where) in made
    if where.stem == "index" or where.parts[0] == "api":
        return True
    if where.parts[0] == "notebooks":
        return (DOCS / where).with_suffix(".ipynb").is_file()
    from ste_lightning.functional import surrogate_names
    from ste_lightning.quantizers import quantizer_names

    return where.stem in (surrogate_names() if where.parts[0] == "rules" else quantizer_names())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists() or names(found), f"{page.name}: {target}"
        if anchor and found.suffix == ".md" and found.exists():
            assert anchor in anchors(found), f"{page.name}: {target}: {sorted(anchors(found))}"


class _Loader(yaml.SafeLoader):
    """Of mkdocs.yml: names of Python functions are left as they are."""


def listed(entries: list) -> list[str]:
    """Return the files of a navigation, in order."""
    found = []
    for entry in entries:
        inside = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += listed(inside) if isinstance(inside, list) else [inside]
    return found


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    shown = listed(settings["nav"])
    assert len(shown) == len(set(shown))
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert written <= set(shown), "add it to mkdocs.yml"
    for page in set(shown) - written:
        assert names(DOCS / page), f"{page} is neither written nor generated"


def test_pictures_are_small_and_used(monkeypatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "site")
    import recipe_pages

    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    texts += recipe_pages.pages().values()
    used = {Path(target).name for text in texts for target in LINK.findall(text)}
    pictures = sorted((DOCS / "images").rglob("*.png"))
    assert [p.name for p in pictures if p.name not in used] == []
    large = [p.name for p in pictures if p.stat().st_size > 100_000]
    assert large == [], "fewer colours: docs/figures/drawing.py"
