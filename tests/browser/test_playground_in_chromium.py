"""The playground in a browser: the engine's numbers, every scene, accessibility."""

from __future__ import annotations

import pytest
from browser_tools import serious
from playground_cases import recorded

from ste_lightning.playground.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("playground") / "page.html"
    assert main(["--write", str(file)]) == 0
    return file.as_uri()


def test_the_engine_trains_as_the_library(seen, address) -> None:
    given, expected = recorded("noise")
    wrong = seen(address).evaluate(
        """(given) => {
          const s = new Student(given.problem, given.options);
          const wrong = [s.wrong];
          for (let t = 0; t < given.steps; t++) { s.step(); wrong.push(s.wrong); }
          return wrong;
        }""",
        given,
    )
    assert wrong == expected["wrong"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_every_scene_runs_and_is_accessible(seen, address, width, scheme) -> None:
    page = seen(address, width, scheme)
    for scene in page.evaluate("SCENES.map((one) => one.id)"):
        page.click(f"[data-scene={scene}]")
        if scene not in ("pretend", "by-hand"):
            page.wait_for_function("student.steps > 5", timeout=60_000)
        assert serious(page) == [], scene
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.inner_text("#command")
    page.click("[data-scene=pretend]")
    page.check("#pretended")
    page.wait_for_function("lone.x < 0.85", timeout=60_000)
    page.click("[data-scene=by-hand]")
    before = page.inner_text("#hand")
    page.click("#hand-step")
    assert page.inner_text("#hand") != before
    page.click("[data-scene=trap-door]")
    page.focus("#set-N")
    page.keyboard.press("Home")
    assert page.evaluate("student.N") == 4
    page.click("#play")
    at = page.evaluate("student.steps")
    page.click("#one")
    assert page.evaluate("student.steps") == at + 1
