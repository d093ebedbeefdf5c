"""What the tests in a browser ask of a page."""

from __future__ import annotations

from typing import Any

import pytest


def serious(page: Any) -> list[str]:
    """Return what axe-core finds serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is missing")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
