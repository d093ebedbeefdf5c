"""Folders and files that are missing, empty, cut or of something else: one message, status 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ste_lightning import combine, diff, export, new, predict, report, results, study, train
from ste_lightning.errors import ConfigurationError
from ste_lightning.running.metrics_file import history
from ste_lightning.running.sweep_rows import collect

RESULTS = json.dumps({"metrics": {"a": 1.0}, "overrides": [], "seconds": 1.0, "seed": 0})
CONFIG = "{name: x, seed: 0, model: {a: 1}, data: {a: 1}, trainer: {a: 1}, report: []}\n"
DAMAGES = {
    "missing": None,
    "empty": b"",
    "cut": b'{"name": "x", "hyd',
    "foreign": b'{"a": [1, 2]}\n',
    "a list": b"[1, 2]\n",
    "binary": bytes(range(256)),
}
Command = tuple[Callable[[Sequence[str]], int], list[str]]
FILES: dict[str, list[Command]] = {
    "results.json": [(report.main, ["run"])],
    "config.yaml": [
        (report.main, ["run"]),
        (export.main, ["ckpt_path=run/checkpoints/last.ckpt"]),
    ],
    ".hydra/hydra.yaml": [(train.main, ["resume=run"])],
    "multirun.yaml": [
        (combine.main, ["run"]),
        (train.main, ["resume=run"]),
    ],
    "checkpoints/last.ckpt": [
        (export.main, ["ckpt_path=run/checkpoints/last.ckpt"]),
    ],
    "net.safetensors": [
        (predict.main, ["model=run/net.safetensors", "input=run"]),
        (diff.main, ["model=run/net.safetensors", "ckpt_path=run/checkpoints/last.ckpt"]),
    ],
    "plan.yaml": [(results.main, ["train", "--folder", "run"])],
    "my_recipe.yaml": [(new.main, ["run/my_recipe.yaml"])],
}


def run_folder(path: Path) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}}, path / "checkpoints" / "last.ckpt")
    (path / "results.json").write_text(RESULTS)
    (path / "config.yaml").write_text(CONFIG)
    return path


@pytest.mark.parametrize("file", FILES)
def test_damaged_files_are_one_message(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in DAMAGES.items():
        if content is None and file == "my_recipe.yaml":
            continue  # where nothing is, a project may begin
        folder = run_folder(tmp_path / name / "run")
        monkeypatch.chdir(tmp_path / name)
        target = folder / file
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        if content is not None:
            target.write_bytes(content)
        for main, arguments in FILES[file]:
            monkeypatch.setattr("sys.argv", ["command"])
            assert main(arguments) == 1, (name, arguments)
            said = capsys.readouterr().err
            assert said.count("error: ") == 1, (name, arguments, said)
            assert "Traceback" not in said
            assert "STE_TRACEBACK" not in said, (name, arguments, said)


def test_a_study_is_refused_a_folder_that_is_a_file_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["study"])
    monkeypatch.setattr("ste_lightning.running.study.run", lambda *args: pytest.fail("computed"))
    Path("file").write_text("mine")
    assert study.main(["+recipe=gap", "folder=file"]) == 1
    assert "folder='file' cannot be used" in capsys.readouterr().err


def test_a_damaged_run_costs_itself_alone(tmp_path: Path) -> None:
    for number, content in enumerate((RESULTS, '{"metrics"', "[1]")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "results.json").write_text(content)
    sweep = collect(tmp_path)
    assert [row["a"] for row in sweep.rows] == [1.0]
    assert [path.name for path in sweep.failed] == ["1", "2"]
    assert all("results.json cannot be" in said for said in sweep.failed.values())


@pytest.mark.parametrize("content", [b"a,step\nx,1\n", b"a,step\n1,2,3,4\n", b"a\n\xff\n"])
def test_rows_that_are_no_numbers_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"metrics\.csv cannot be read"):
        history(tmp_path / "metrics.csv")
