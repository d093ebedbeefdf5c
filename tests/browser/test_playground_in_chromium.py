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
    cases = [recorded(name) for name in ("noise", "rolling", "adam_noise", "whitening")]
    found = seen(address).evaluate(
        """(cases) => cases.map((given) => {
          const Z = Float32Array.from(given.problem.Z);
          NORMALIZATIONS[given.problem.normalize](Z, given.problem.n);
          const s = new Student({ ...given.problem, Z }, given.options);
          const wrong = [s.wrong];
          for (let t = 0; t < given.steps; t++) { s.step(); wrong.push(s.wrong); }
          return wrong;
        })""",
        [given for given, _ in cases],
    )
    assert found == [expected["wrong"] for _, expected in cases]


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


def test_what_is_moved_moves_the_training(seen, address) -> None:
    page = seen(address)
    steps = "student.steps"
    page.check("#pretended")
    page.wait_for_function("lone.x < 0.85", timeout=60_000)
    page.fill("#lone", "1.5")
    page.wait_for_function(
        "document.getElementById('pretend-said').textContent.includes('Beyond 1')"
    )
    page.click("[data-scene=by-hand]")
    before = page.inner_text("#hand")
    page.click("#hand-step")
    assert page.inner_text("#hand") != before
    page.click("[data-scene=sawtooth]")
    assert "g / D = 24 %" in page.inner_text("#follow-said")
    at = page.evaluate("({x: 0.7 * strips[1].width, y: 5})")
    page.click("#weights", position=at)
    assert page.evaluate("followed") != 11
    page.click("[data-scene=mean]")
    page.wait_for_selector("#lamp-dead:visible", timeout=60_000)
    page.click("#tries >> text=Centre the inputs")
    page.wait_for_function("student.wrong === 0", timeout=60_000)
    page.click("#reset-scene")
    assert page.evaluate("settings.normalize") == "none"
    page.click("[data-scene=samples]")
    assert "127 samples (95 % interval 108 to 150, measured)" in page.inner_text("#needed-said")
    page.focus("#set-N")
    page.keyboard.press("Home")
    assert page.evaluate("student.N") == 4
    page.click("#play")
    at = page.evaluate(steps)
    page.click("#one")
    assert page.evaluate(steps) == at + 1
    page.click("#forget")
    assert page.evaluate("student.counted()") == 0
    assert page.input_value("#set-from") == str(at + 1)
    page.click("#new")
    assert page.evaluate("[settings.seed, student.steps]") == [7, 0]
    page.select_option("#set-optimizer", "adam")
    assert page.is_disabled("#set-momentum")
    page.click("#one")
    assert page.evaluate("student.optimizer") == "adam"
    assert page.evaluate("[strips[0].drawn, history.points.length]") == [2, 2]
