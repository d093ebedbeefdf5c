"""A headless Chromium that sees no network; tests are skipped where parts of it are missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no chromium: apt install chromium")
    with api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def seen(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; what it complains about, or asks the network for, fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(address: str, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        own = address.partition("//")[2].partition("/")[0]

        def asked(request: Any) -> None:
            if not request.url.startswith(("file:", "data:", "blob:", f"http://{own}/")):
                complaints.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
