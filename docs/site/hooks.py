"""Hooks of MkDocs: pages that are made from the registries, and links out of the documentation.

``mkdocs.yml`` names this file. Nothing that it makes is committed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import api_pages  # noqa: E402
import griffe_docstrings  # noqa: E402, F401 - pages import it later, when this path is gone
import notebook_pages  # noqa: E402
import quantizer_pages  # noqa: E402
import recipe_pages  # noqa: E402
import rule_pages  # noqa: E402

from ste_lightning import playground  # noqa: E402
from ste_lightning.deploy.export import html  # noqa: E402

SHIM = "assets/search_shim.js"
_REMOTE_SHIM = "https://unpkg.com/iframe-worker/shim"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _sections() -> dict[str, dict[str, str]]:
    """Return file -> title of the generated pages, by the section of the navigation."""
    return {
        "Backward rules": {f"rules/{name}.md": name for name in rule_pages.names()},
        "Quantizers": {f"quantizers/{name}.md": name for name in quantizer_pages.names()},
        "Notebooks": {f"notebooks/{n}.md": title for n, title in notebook_pages.names().items()},
        "API reference": {f"api/{name}.md": name for name in api_pages.MODULES},
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    assert config.nav is not None
    sections = _sections()

    def fill(entries: list[Any]) -> None:
        for entry in entries:
            for title, inside in entry.items() if isinstance(entry, Mapping) else ():
                if isinstance(inside, list):
                    inside += [{name: path} for path, name in sections.pop(title, {}).items()]
                    fill(inside)

    fill(config.nav)
    assert not sections, f"mkdocs.yml has no section {sorted(sections)}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and their pictures."""
    pages: dict[str, str | bytes] = {
        **rule_pages.pages(),
        **quantizer_pages.pages(),
        **recipe_pages.pages(),
        **notebook_pages.pages(),
        **api_pages.pages(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "play.html": playground.page(),
        "draw.html": html.page((Path(__file__).parent / "digits.safetensors").read_bytes()),
        SHIM: (Path(__file__).parent / "search_shim.js").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Name files of the repository that are no pages instead of linking to them."""

    def replaced(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if ":" in target:
            return match[0]
        folder = (Path(config.docs_dir) / page.file.src_uri).parent
        path = (folder / target).resolve()
        outside = Path(config.docs_dir) not in path.parents
        return text if outside and path.exists() else match[0]

    if page.file.src_uri == "playground.md":
        markdown = markdown.replace("\n\n", "\n\n**[Open it here](play.html).** ", 1)
    if page.file.src_uri == "formats.md":
        title = "## In a browser\n\n"
        markdown = markdown.replace(title, f"{title}**[Draw a digit here](draw.html).**\n\n", 1)
    return _LINK.sub(replaced, markdown)


def _mended(output: str, shim: str) -> str:
    """Let the search run from the disk, and give it a name for screen readers."""
    named = output.replace('class="md-search"', 'class="md-search" aria-label="Search"')
    return named.replace(_REMOTE_SHIM, shim)


def on_post_page(output: str, page: Any, config: MkDocsConfig) -> str:
    """Mend what the theme writes."""
    return _mended(output, get_relative_url(SHIM, page.url))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Likewise for pages that are no Markdown, such as 404.html."""
    return _mended(output_content, SHIM)
