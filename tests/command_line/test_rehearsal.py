"""What is wrong is found before the first step, and trying it out changes nothing."""

import json

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.running import run as running

RUN = "+recipe=digits_mlp"
STUDENT = "+recipe=teacher_student"
OWN = """
import lightning as L
import torch
from matplotlib.figure import Figure
from torch import nn

class Fails(nn.Module):
    def __init__(self, at="forward"):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        if at == "init":
            raise KeyError("no such thing")
    def forward(self, x):
        return self.missing(x)

def late(run):
    return Figure() if many(run)["epochs"] < 2 else run.nothing

def many(run):
    return {"epochs": sum("train/loss" in row for row in run.history)}

def too_late(run):
    return many(run) if many(run)["epochs"] < 2 else run.nothing
"""


@pytest.fixture
def own(tmp_path):
    """A folder of one's own with a module beside the recipes."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_parts.py").write_text(OWN)
    return f"--config-dir={folder}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([RUN, "trainer.max_epochs=abc"], "trainer.max_epochs='abc' cannot be used: use an int"),
        ([RUN, "data.batch_size=2.5"], "data.batch_size=2.5 cannot be used: use an integer"),
        ([RUN, "data.batch_size=true"], "data.batch_size=True cannot be used"),
        ([RUN, "model.network.hidden=7"], "hidden=7"),
        ([RUN, "trainer.deterministic=maybe"], "true or false"),
        ([RUN, "model=null"], "model=null cannot be used: choose one of its options: characters"),
        ([RUN, "callbacks=null"], "callbacks=null cannot be used"),
        ([RUN, "logger=3"], "logger=3 cannot be used"),
        ([RUN, "data=teacher_student"], "mat1 and mat2 shapes cannot be multiplied"),
        ([RUN, "model.network.features=63"], "the first batch fails"),
        ([RUN, "model.classes=3", "model.network.classes=3"], "raise classes=3"),
        ([RUN, "trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0"),
        ([RUN, "trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1"),
        ([RUN, "trainer.gradient_clip_val=nan"], "trainer.gradient_clip_val=nan"),
        ([RUN, "trainer.limit_train_batches=0"], "nothing would be trained"),
        ([RUN, "trainer.check_val_every_n_epoch=99"], "validation would never run"),
        ([RUN, "trainer.accelerator=abc"], "abc"),
        ([RUN, "report=[tets/accuracy]"], "metric in report 'tets/accuracy'. Did you mean 'test/"),
        ([RUN, "monitor=val/lss"], "metric of callbacks.best.monitor 'val/lss'. Did you mean"),
        ([RUN, "monitor=val/lss", "callbacks=default"], "metric in monitor 'val/lss'"),
        ([RUN, "monitor_mode=lowest"], "monitor_mode='lowest'"),
        ([RUN, "expected={val/acuracy: [0,1]}"], "'val/acuracy'"),
        ([RUN, "expected={test/accuracy: 0.9}"], "expected.test/accuracy=0.9"),
        ([RUN, "expected={test/accuracy: [1,0]}"], "use [lowest, highest]"),
        (
            [RUN, "figures.curves._target_=ste_lightning.figures.learning_curvs"],
            "'learning_curves'",
        ),
        ([RUN, "figures.curves._target_=ste_lightning.figures.comparison"], "sweep.figures"),
        ([RUN, "+figures.curves.dpi=3"], "unknown key of figures.curves 'dpi'"),
        ([RUN, "figures.curves._target_=ste_lightning.reports.two_layer.convergence"], "two_layer"),
        ([RUN, "+summary.s._target_=ste_lightning.reports.two_layer.trials_summary"], "summary.s"),
        ([RUN, "sweep.figures.accuracy._target_=ste_lightning.figures.comparsion"], "'comparison'"),
        ([RUN, "+trainer._target_x=1"], "unknown key of trainer '_target_x'"),
        ([RUN, "sweep.interval=[]"], "unknown sweep.interval []. Known: bootstrap, t"),
        ([RUN, "sweep.baseline=3"], "sweep.baseline=3 cannot be used: use {NAME: VALUE}"),
        ([RUN, "+sweep.figure.x=1"], "unknown key of sweep 'figure'. Did you mean 'figures'"),
        ([RUN, "callbacks.best.save_top_k=-5"], "save_top_k"),
        ([RUN, "callbacks.clipping._target_=torch.nn.ReLU"], "ReLU is no Callback"),
        ([RUN, "+callbacks.x=5"], "callbacks.x has no _target_"),
        ([RUN, "trainer._target_=builtins.dict"], "is no Trainer"),
        ([RUN, "data._target_=os.system", "~data.seed"], "data"),
        ([RUN, "seed=4294967296"], "use an integer from 0 to 4294967295"),
        ([RUN, "threads=5000"], "threads=5000"),
        (
            [RUN, "imports=[nowhere_at_all]"],
            "found in the current folder, in the folder of --config",
        ),
        ([RUN, "quantizer.input.rule=nobodys"], "imports=[module]"),
        ([RUN, "quantizer.weight.threshold=1"], "takes a plus: +quantizer.weight.threshold="),
        (
            [RUN, "quantizer.weight.map=ternary", "+quantizer.weight.threshold=0.9"],
            "all on one level of ternary/clipped. They lie in its dead zone",
        ),
        ([RUN, "quantizer.weight.map=lsq"], "it would keep rule=clipped of the quantizer before"),
        ([RUN, "callbacks=monitor", "quantizer=float"], "no layer has a weight quantizer"),
        ([RUN, "--multirn"], "unknown flag '--multirn'. Did you mean '--multirun'"),
        ([STUDENT, "model.trace_steps=0"], "trace_steps=0"),
        ([STUDENT, "report=[recoverd]"], "Did you mean 'recovered'"),
    ],
)
def test_wrong_words_are_one_message_before_the_first_step(cli, tmp_path, arguments, message):
    status, out, err = cli(*arguments, "callbacks.progress=null")
    assert status == 1
    assert message in err
    assert err.count("error:") == 1
    assert "Traceback" not in out + err
    assert not [*tmp_path.rglob("*.ckpt"), *tmp_path.rglob("results.json"), *tmp_path.glob("[.]*")]


def test_what_a_rehearsal_does_leaves_no_mark_on_the_run(cli, small, tmp_path):
    for rehearse in ("true", "false"):
        folder = f"hydra.run.dir=rehearse_{rehearse}"
        status, _, err = cli(RUN, *small, "data.shift=1", f"rehearse={rehearse}", folder)
        assert status == 0, err
    with_it, without = (
        (
            torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True),
            (tmp_path / name / "metrics" / "metrics.csv").read_text(),
        )
        for name in ("rehearse_true", "rehearse_false")
    )
    assert with_it[1] == without[1]
    for name, value in without[0]["state_dict"].items():
        torch.testing.assert_close(with_it[0]["state_dict"][name], value, rtol=0, atol=0)
    assert not list((tmp_path / "rehearse_true").glob(".rehearsal*"))


def test_a_rehearsal_touches_no_checkpoint_elsewhere(cli, small, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "last.ckpt").write_text("of another run")
    status, _, err = cli(
        RUN, *small, f"callbacks.last.dirpath={kept}", "report=[nothing]", "hydra.run.dir=run"
    )
    assert status == 1
    assert "'nothing'" in err
    assert (kept / "last.ckpt").read_text() == "of another run"


@pytest.mark.parametrize("at", ["init", "forward"])
def test_a_fault_in_ones_own_code_is_one_line_and_a_traceback_in_the_log(cli, tmp_path, own, at):
    status, out, err = cli(
        own,
        RUN,
        "model=classifier",
        f"+model.network={{_target_: own_parts.Fails, at: {at}}}",
        "callbacks.progress=null",
        "hydra.run.dir=run",
    )
    assert status == 1
    assert err.count("error:") == 1
    assert "Traceback" not in out + err
    line = {"init": "KeyError: 'no such thing'", "forward": "has no attribute 'missing'"}[at]
    assert line in err
    number = 1 + next(i for i, text in enumerate(OWN.splitlines()) if "self.missing" in text)
    if at == "forward":
        assert f"own_parts.py:{number}, in forward" in err
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Traceback" in log
    assert str(tmp_path / "run" / "train.log") in err


def test_a_figure_that_fails_after_training_costs_itself_alone(cli, small, tmp_path, own):
    status, out, err = cli(
        own,
        RUN,
        *small,
        "trainer.max_epochs=2",
        "hydra.run.dir=run",
        "+figures.late={_target_: own_parts.late}",
        "+summary.epochs={_target_: own_parts.many}",
        "+summary.late={_target_: own_parts.too_late}",
        "report=[epochs,test/accuracy]",
    )
    assert status == 0, err
    assert "figures.late could not be drawn, all else is kept: AttributeError" in err
    assert "own_parts.py" in err
    assert "summary.late failed, its numbers are missing" in err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["metrics"]["epochs"] == 2
    assert (tmp_path / "run" / "curves.png").is_file()
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert "epochs" in out


def test_an_error_after_training_has_begun_removes_nothing(cli, small, tmp_path, monkeypatch):
    def refuses(*arguments):
        raise ConfigurationError("results.json cannot be written: No space left on device.")

    monkeypatch.setattr(running, "record", refuses)
    status, _, err = cli(RUN, *small, "hydra.run.dir=run")
    assert status == 1
    assert err.count("error:") == 1
    assert "No space left" in err
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert f"resume={tmp_path / 'run'}" in err
