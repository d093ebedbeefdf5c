"""The documentation as `make docs` builds it: read by all, searched from the disk."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_tools import serious

SITE = Path(__file__).parents[2] / "site"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="`make docs` builds site/"),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of the site on loopback: axe reads style sheets, which pages on disk may not."""
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("index", 1280, "light"),
        ("migrate", 1280, "dark"),
        ("recipes", 1280, "light"),
        ("theory/noise", 360, "dark"),
        ("quantizers/lsq", 360, "light"),
        ("api/theory", 1280, "dark"),
    ],
)
def test_a_page_is_accessible(seen, address, name, width, scheme) -> None:
    page = seen(f"{address}/{name}.html", width, scheme)
    wraps = "document.querySelectorAll('.md-typeset__scrollwrap')"
    page.wait_for_function(f"[...{wraps}].every(wrap => wrap.tabIndex === 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []


def test_the_search_finds_from_the_disk(seen) -> None:
    page = seen((SITE / "theory" / "noise.html").as_uri())
    page.locator(".md-search__input").first.click()
    page.keyboard.type("sawtooth")
    page.wait_for_selector(".md-search-result__link", timeout=60_000)
    found = page.locator(".md-search-result__link").evaluate_all("all => all.map(a => a.href)")
    assert any("concepts/recurrence.html" in link for link in found), found
    assert all(link.startswith("file:") for link in found)
