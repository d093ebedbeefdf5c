"""An exported page in a browser: Python's predictions, drawing, files, accessibility."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from browser_tools import serious

from ste_lightning import deploy
from ste_lightning.deploy.export.html import page

SMALL = Path(__file__).parents[2] / "docs" / "site" / "digits.safetensors"

ALL = """
(rows) => rows.map((row) => { network.input.data.set(row); return Array.from(network.run()); })
"""
DRAWN = """
() => [document.getElementById("drawing").toDataURL().split(",")[1],
       Array.from(network.output.data)]
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(page(SMALL.read_bytes()), encoding="utf-8")
    return file.as_uri()


def ready(seen, address, *how):
    opened = seen(address, *how)
    opened.wait_for_function("network !== null && document.querySelector('#scores tbody tr')")
    return opened


def draw(opened) -> None:
    box = opened.locator("#drawing").bounding_box()
    x, y, size = box["x"], box["y"], box["width"]
    opened.mouse.move(x + 0.3 * size, y + 0.1 * size)
    opened.mouse.down()
    for right, down in ((0.7, 0.1), (0.5, 0.5), (0.4, 0.9)):
        opened.mouse.move(x + right * size, y + down * size, steps=4)
    opened.mouse.up()


def test_the_page_predicts_and_draws_as_python(seen, address, tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    from ste_lightning.data import Digits

    data = Digits()
    data.setup()
    x = data.test_part.images
    network = deploy.load(SMALL)
    opened = ready(seen, address)
    found = np.array(opened.evaluate(ALL, x.flatten(1).tolist()))
    expected = network(x)
    assert (found.argmax(1) == expected.argmax(1).numpy()).all()
    assert (expected.argmax(1) == data.test_part.labels).float().mean() > 0.97

    draw(opened)
    opened.wait_for_function("!waiting")
    picture, made = opened.evaluate(DRAWN)
    drawn = image.open(io.BytesIO(base64.b64decode(picture))).convert("L")
    (said,) = network.predict([drawn])
    assert np.asarray(drawn).any()
    assert np.allclose(made, said.outputs, atol=1e-4)
    best = f"{said.prediction}, {100 * said.confidence:.0f} %"
    opened.wait_for_function(
        "(best) => document.getElementById('best').textContent === best", arg=best
    )
    assert opened.inner_text("#scores .best th") == said.prediction

    (tmp_path / "broken.safetensors").write_bytes(SMALL.read_bytes()[:-9])
    opened.set_input_files("#file", tmp_path / "broken.safetensors")
    opened.wait_for_function("document.getElementById('refusal').textContent")
    assert "cut off" in opened.inner_text("#refusal")
    opened.set_input_files("#file", SMALL)
    opened.wait_for_function("document.getElementById('about').textContent.includes('digits')")
    assert opened.inner_text("#refusal") == ""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_is_for_all(seen, address, width, scheme) -> None:
    opened = ready(seen, address, width, scheme)
    opened.focus("#drawing")
    for key in (" ", *["ArrowDown"] * 8):
        opened.keyboard.press(key)
    opened.click("summary")
    opened.wait_for_function("!waiting && document.getElementById('best').textContent")
    assert opened.evaluate("drawing.picture().data.some((value) => value > 0)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(opened) == []
    opened.click("#clear")
    assert not opened.evaluate("drawing.picture().data.some((value) => value > 0)")
