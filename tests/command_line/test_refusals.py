import sys

import pytest
import torch

from ste_lightning import combine, diff, export, predict, rules, study, train
from ste_lightning.running.recipes import recipe_names

RUN = "+recipe=digits_mlp"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+recipe=digits_mpl"], "unknown recipe 'digits_mpl'. Did you mean 'digits_mlp'?"),
        ([], "no recipe chosen: add +recipe=NAME"),
        (["+recipe=gap"], "It belongs to: python -m ste_lightning.study +recipe=gap"),
        (["+recipe=teacher_student", "rule=identity"], "Did you mean 'model.rule'?"),
        (["+recipe=digits_mlp", "epochs=3"], "Did you mean 'trainer.max_epochs'?"),
        ([RUN, "data=my_data"], "python -m ste_lightning.new"),
        ([RUN, "sede=2"], "Did you mean 'seed'?"),
        ([RUN, "seed=two"], "'two'"),
        ([RUN, "seed=-1"], "seed=-1"),
        ([RUN, "threads=0"], "threads=0"),
        ([RUN, "data.batchsize=3"], "Did you mean 'batch_size'?"),
        ([RUN, "+data.batchsize=3"], "Did you mean 'batch_size'?"),
        ([RUN, "data.batch_size=0"], "batch_size=0"),
        ([RUN, "model=mlpp"], "unknown model 'mlpp'. Did you mean 'mlp'?"),
        ([RUN, "quantizer.input.rule=cliped"], "Did you mean 'clipped'?"),
        ([RUN, "optimizer.name=adma"], "Did you mean 'adam'?"),
        ([RUN, "optimizer.lr=-1"], "Invalid learning rate"),
        ([RUN, "trainer.max_epoch=2"], "Did you mean 'max_epochs'?"),
        ([RUN, "mode=tset"], "[train, test]"),
        ([RUN, "mode=test"], "name the checkpoint to test"),
        ([RUN, "ckpt_path=nowhere.ckpt"], "there is no such file"),
        ([RUN, "model._target_=ste_lightning.models.Clasifier"], "Did you mean 'Classifier'?"),
        ([RUN, "model._target_=nowhere.Model"], "no module 'nowhere'"),
        ([RUN, "~model._target_"], "model has no _target_"),
        ([RUN, "model=classifier"], "name its class as _target_"),
        ([RUN, "x=[1"], "no viable alternative"),
        (["+recipe=teacher_student", "data.n=0"], "n=0"),
        (["+recipe=teacher_student", "data.m=-1"], "m=-1"),
        (["+recipe=teacher_student", "data.samples=0"], "samples=0"),
        (["+recipe=teacher_student", "data.trials=0"], "trials=0"),
        (["+recipe=teacher_student", "data.noise=-0.1"], "noise=-0.1"),
        (["+recipe=teacher_student", "data.batch_size=1000"], "batch_size=1000"),
        (["+recipe=teacher_student", "model.rule=rleu"], "Did you mean 'relu'?"),
        (["+recipe=teacher_student", "model.n=5"], "n"),
        (["+recipe=teacher_student", "model=mlp"], "quantizer=NAME"),
    ],
)
def test_one_readable_message_and_nothing_half_written(cli, tmp_path, arguments, message):
    status, out, err = cli(*arguments, *(["callbacks.progress=null"] if arguments else []))
    assert status == 1
    assert message in err
    assert err.count("error:") == 1
    assert "Traceback" not in err + out
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (export, ["seconds=inf"], "seconds=inf cannot be used: use seconds from 0 to 3600"),
        (export, ["samples=99999999"], "samples=99999999 cannot be used"),
        (export, ["batch_sizes=[[1]]"], "batch_sizes=[[1]] cannot be used"),
        (export, ["threads=9999"], "use an integer from 1 to 1024"),
        (export, ["+x=1"], "unknown key 'x'"),
        (export, ["=3"], "'=3' cannot be used: write key=value"),
        (predict, ["model=a", "input=b", "threads=9999"], "use an integer from 1 to 1024"),
        (study, ["+recipe=required_samples", "figure={_target_: nowhere}"], "nowhere"),
        (diff, ["ckpt_path=a", "model=b", "input="], "input= has no value"),
        (rules, ["--plot", "there"], "error: --plot there: File exists."),
        (rules, ["--plto"], "unrecognized arguments: --plto"),
        (combine, [], "the following arguments are required: folder"),
        (combine, ["nowhere"], "FOLDER='nowhere' cannot be used"),
    ],
)
def test_the_other_commands_say_one_thing_too(
    tmp_path, monkeypatch, capsys, command, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["command"])
    try:
        status = command.main(arguments)
    except SystemExit as stop:  # of argparse
        status = stop.code
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert message in said
    assert said.count("error:") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: \xff", "cannot be read as UTF-8 text"),
        (b"# @itle.\nseed: 1\n", "write '# @package GROUP'"),
        (b"3 ", "it holds no settings"),
    ],
)
def test_a_recipe_that_is_none_is_named(cli, tmp_path, content, said):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_bytes(content)
    status, _, err = cli(f"--config-dir={tmp_path}/own", "+recipe=mine")
    assert status == 1
    assert "mine.yaml cannot be" in err
    assert said in err
    assert err.count("error:") == 1
    assert "Traceback" not in err


def test_help_lists_the_recipes_with_their_descriptions(cli):
    status, out, _ = cli("--help-all")
    assert status == 0
    assert "digits_mlp" in out
    assert "Binary multilayer perceptron on real handwritten digits." in out
    assert "trainer: cpu, ddp, gpu" in out


@pytest.mark.parametrize("command", [train, study])
def test_help_fits_a_screen_and_names_every_recipe(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command"])
    assert command.main(["--help"]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    shown = {word for line in lines for word in line.split()}
    assert shown >= set(recipe_names(studies=command is study))
    assert any("--help-all" in line for line in lines)


def test_an_unknown_recipe_lists_the_recipes(cli):
    _, _, err = cli("+recipe=nothing_like_it")
    assert "Recovery against the number of samples" in err


def test_a_checkpoint_of_another_architecture(cli, small, tmp_path):
    cli("+recipe=digits_float", *small, f"hydra.run.dir={tmp_path}/first")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    status, _, err = cli(
        "+recipe=digits_float",
        *small,
        "model.network.hidden=[16,24]",
        f"ckpt_path={last}",
        f"hydra.run.dir={tmp_path}/second",
    )
    assert status == 1
    assert "made by another architecture" in err
    assert "(16, 16)" in err
    assert err.count("error:") == 1
    assert not (tmp_path / "second").exists()


def test_files_that_are_no_checkpoints(cli, tmp_path):
    torch.save({"weights": 1}, tmp_path / "other.pt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name, message in (
        ("other.pt", "not a Lightning checkpoint"),
        ("text.ckpt", "cannot be used as a checkpoint"),
    ):
        status, _, err = cli(RUN, f"ckpt_path={tmp_path / name}")
        assert status == 1
        assert message in err


def test_a_refused_run_keeps_what_its_folder_held_before(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    status, _, _ = cli(RUN, "data.batch_size=0", f"hydra.run.dir={tmp_path}/mine")
    assert status == 1
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
