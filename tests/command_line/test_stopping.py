"""What stops a run leaves the last checkpoint whole, removes nothing and says how to go on."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.running.checkpoint_io import WholeCheckpoints
from ste_lightning.running.failures import described
from ste_lightning.running.stopping import how_to_go_on

RUN = "+recipe=digits_mlp"
KILLING = """
import os
import signal
import lightning as L

class Kill(L.Callback):
    def __init__(self, rank=0):
        self.rank = rank

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == 6 and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)
"""


def test_how_to_go_on_names_the_newest_checkpoint(tmp_path):
    assert how_to_go_on(tmp_path) == "There is no checkpoint yet: start again."
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for age, name in enumerate(("b", "a")):
        (folder / f"{name}.ckpt").touch()
        os.utime(folder / f"{name}.ckpt", (age, age))
    assert how_to_go_on(tmp_path).endswith(f"ckpt_path={folder / 'a.ckpt'}")
    (folder / "last.ckpt").touch()
    assert how_to_go_on(tmp_path) == f"To go on: resume={tmp_path}"


def test_a_long_error_is_cut():
    said = described(ValueError("word " * 200))
    assert said.startswith("ValueError: word word ")
    assert said.count("word") == 80
    assert " ..." in said


def test_sigterm_ends_with_143_after_the_step(cli, small, tmp_path, monkeypatch):
    (tmp_path / "killing_itself.py").write_text(KILLING)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    kill = "+callbacks.kill={_target_: killing_itself.Kill}"
    status, _, err = cli(RUN, *small, "trainer.max_epochs=2", kill, "hydra.run.dir=run")
    assert status == 143
    assert "Terminated after 6 steps" in err
    assert "To go on" in err
    assert f"resume={tmp_path / 'run'}" in err
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert not (tmp_path / "run" / "results.json").exists()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_of_two_processes_ends_both_and_training_goes_on(rank, small, tmp_path):
    (tmp_path / "killing_itself.py").write_text(KILLING)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "ste_lightning.train"]
    two = ["trainer.devices=2", "+trainer.strategy=ddp", "trainer.accelerator=cpu"]
    kill = f"+callbacks.kill={{_target_: killing_itself.Kill, rank: {rank}}}"

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    first = run(RUN, *small, *two, "trainer.max_epochs=9", kill, "hydra.run.dir=run")
    assert first.returncode == 143, first.stderr
    assert "Terminated after 6 steps" in first.stderr
    again = run("resume=run")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "results.json").is_file()


def test_ctrl_c_before_the_first_step_leaves_nothing(cli, small, tmp_path, monkeypatch):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("ste_lightning.running.rehearsal.assemble", interrupt)
    status, _, err = cli(RUN, *small)
    assert status == 130
    assert err.strip() == "Interrupted after 0 steps."
    assert list(tmp_path.iterdir()) == []


def full_disk(monkeypatch, after):
    """Let every checkpoint but the first ``after`` ones run out of space half way."""
    save, written = torch.save, []

    def half(content, file, *rest):
        written.append(file)
        if len(written) <= after:
            return save(content, file, *rest)
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", half)


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    path, writer = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    full_disk(monkeypatch, after=1)
    writer.save_checkpoint({"state_dict": {"weight": torch.ones(3)}}, path)
    with pytest.raises(ConfigurationError, match=r"last\.ckpt cannot be written: No space left"):
        writer.save_checkpoint({"state_dict": {}}, path)
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]
    kept = torch.load(path, weights_only=True)["state_dict"]["weight"]
    torch.testing.assert_close(kept, torch.ones(3))


def test_training_on_a_full_disk_stops_with_one_message(cli, small, tmp_path, monkeypatch):
    full_disk(monkeypatch, after=2)
    more = ["trainer.max_epochs=3", "rehearse=false", "hydra.run.dir=run"]
    status, out, err = cli(RUN, *small, *more)
    assert status == 1
    assert err.count("error:") == 1
    assert "No space left on device" in err
    assert "Traceback" not in out + err
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert f"resume={tmp_path}/run" in err
    for path in kept:
        assert "state_dict" in torch.load(path, weights_only=True)


def test_results_of_another_run_are_not_overwritten(cli, small, tmp_path):
    folder = ["hydra.run.dir=run", "rehearse=false"]
    assert cli(RUN, *small, *folder)[0] == 0
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for more in ([], ["mode=test", f"ckpt_path={last}"]):
        status, _, err = cli(RUN, *small, "seed=5", *more, *folder)
        assert status == 1
        assert "another run's results are there" in err
        assert err.count("error:") == 1
    assert {path: path.read_bytes() for path in before} == before
    status, _, err = cli(RUN, *small, "trainer.max_epochs=2", f"ckpt_path={last}", *folder)
    assert status == 0, err
