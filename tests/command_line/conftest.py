import logging
import sys

import pytest

from ste_lightning.train import main


@pytest.fixture
def cli(monkeypatch, tmp_path, capsys):
    """Run the command line in an empty folder; returns (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("STE_RECIPES", raising=False)

    def run(*arguments):
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    root = logging.getLogger()
    before = list(root.handlers)
    yield run
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    for handler in before:
        if handler not in root.handlers:
            root.addHandler(handler)


@pytest.fixture
def small():
    """Settings of a digits run that takes a moment."""
    return [
        "trainer.max_epochs=1",
        "data.batch_size=256",
        "model.network.hidden=[16,16]",
        "logger=none",
        "callbacks.progress=null",
    ]
