import importlib
import sys

import pytest

from ste_lightning.new import FILES, main


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    assert main([str(folder)]) == 0
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    yield folder
    for name in ("my_data", "my_network", "test_mine"):
        sys.modules.pop(name, None)


def test_what_is_written_trains_and_packs_as_it_is(cli, project):
    importlib.import_module("test_mine").test_it_learns_and_packs()
    words = ["--config-dir", str(project), "+recipe=my_recipe", "trainer.max_epochs=1"]
    status, out, err = cli(*words, "logger=none", "callbacks.progress=null")
    assert status == 0, err
    assert "test/accuracy" in out


def test_nothing_of_ones_own_is_overwritten(project, capsys):
    (project / "my_data.py").write_text("mine")
    (project / "my_network.py").unlink()
    assert main([str(project)]) == 1
    assert "it holds my_recipe.yaml, my_data.py" in capsys.readouterr().err
    assert (project / "my_data.py").read_text() == "mine"
    assert not (project / "my_network.py").exists()
    assert sorted(path.name for path in project.iterdir() if path.is_file()) == sorted(
        name for name in FILES if name != "my_network.py"
    )
