"""Pages of results as a reader sees them: drawn, small, on a phone, light and dark, for all."""

from __future__ import annotations

import pytest
from browser_tools import serious

from ste_lightning.train import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("vl_convert")
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train"])
        settings = [
            "trainer.max_epochs=3", "data.batch_size=64", "model.network.hidden=[32,32]",
            "logger=none", "figures.curves=null", "callbacks.progress=null", "rehearse=false",
            "callbacks.monitor.every=4", "write_report=true",
        ]  # fmt: skip
        many = ["--multirun", "quantizer=sign,float", "seed=0,1", "hydra.sweep.dir=many"]
        assert main(["+recipe=digits_mlp", *settings, *many]) == 0
    return folder / "many"


@pytest.mark.parametrize("name", ["report.html", "0/report.html"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_pages_are_drawn_and_accessible(seen, folder, name, width, scheme) -> None:
    path = folder / name
    assert path.stat().st_size < 3e6
    page = seen(path.as_uri(), width, scheme)
    page.wait_for_function("document.documentElement.dataset.drawn", timeout=120_000)
    drawn, charts = page.evaluate(
        "[document.querySelectorAll('.chart svg, .chart canvas').length, "
        "document.querySelectorAll('.chart').length]"
    )
    assert drawn == charts > 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
