"""The page of what works together names the tests that there are, and no failure."""

import re

from compatibility.table import DOCUMENT, digest, document, rows


def test_the_page_names_every_test_once() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    found = {
        name: (shows, outcome)
        for shows, outcome, name in re.findall(
            r"^\| (.+) \| (.+) \| `(.+)` \|$", written, re.MULTILINE
        )
    }
    assert found.keys() == {row.test for row in rows()}, "run `make compatibility`"
    assert {row.test: row.shows for row in rows()} == {k: v[0] for k, v in found.items()}
    outcomes = {outcome.split(":")[0] for _, outcome in found.values()}
    assert outcomes <= {"passes", "skipped", "not yet"}


def test_the_page_is_of_these_tests_and_of_the_pinned_versions() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert f"tests {digest()}." in written, "run `make compatibility`"
    pinned = (DOCUMENT.parents[1] / "constraints.txt").read_text(encoding="utf-8")
    for name in ("torch", "lightning"):
        version = re.search(rf"^{name}==(.+)$", pinned, re.MULTILINE)[1]
        assert f"{name} {version}," in written, "run `make compatibility`"


def test_outcomes_reach_the_page() -> None:
    first, second, *_ = rows()
    page = document({first.test: "passes", second.test: "**fails**"}, "torch 0")
    assert f"| {first.shows} | passes | `{first.test}` |" in page
    assert f"| {second.shows} | **fails** |" in page
    assert "not run" in page
    assert "torch 0" in page
