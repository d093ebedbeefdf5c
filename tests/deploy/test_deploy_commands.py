"""The two command lines, from a checkpoint to predictions."""

import csv
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ste_lightning import diff, export, predict
from ste_lightning.deploy.file import tensor_file
from ste_lightning.errors import ConfigurationError
from ste_lightning.running.exporting import Schema, run_export

MODEL = {
    "_target_": "ste_lightning.models.Classifier",
    "classes": 10,
    "network": {
        "_target_": "ste_lightning.models.networks.ConvNet",
        "channels": [8, 16, 16],
        "weight_quantizer": "sign",
        "input_quantizer": "sign",
    },
}
DATA = {"_target_": "ste_lightning.data.Digits"}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network after a few steps, with the files of a run."""
    from ste_lightning.models import Classifier

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = Classifier(MODEL["network"], 10).train()
    for _ in range(3):
        model(torch.randn(64, 1, 8, 8))
    OmegaConf.save(OmegaConf.create({"model": MODEL, "data": DATA}), folder / "config.yaml")
    (folder / "checkpoints").mkdir()
    path = folder / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": model.state_dict(), "pytorch-lightning_version": "2.5.0"}, path)
    return path


def settings(checkpoint, **more):
    given = {"ckpt_path": str(checkpoint), "samples": 50, "seconds": 0.05, "batch_sizes": [2]}
    return OmegaConf.merge(OmegaConf.structured(Schema), given, more)


@pytest.fixture(scope="module")
def packed(checkpoint):
    run_export(settings(checkpoint, classes=[f"digit {i}" for i in range(10)]))
    return checkpoint.with_name("best.packed.safetensors")


def test_export_reports_layers_exactness_and_times(checkpoint, capsys, tmp_path):
    out = tmp_path / "net.pt2"
    run_export(settings(checkpoint, format="torch_export", out=str(out), floats="float16"))
    said = capsys.readouterr().out
    assert any(line.startswith(" layer ") for line in said.splitlines())  # names at the left
    assert out.is_file()
    for text in (
        "PackedConv",
        "1x1",
        "MACs",
        "the exported file: 0 of 50",
        "packed: ",
        "faster by",
    ):
        assert text in said


def test_wrong_settings_are_refused(checkpoint, tmp_path):
    with pytest.raises(ConfigurationError, match="format"):
        run_export(settings(checkpoint, format="onx"))
    with pytest.raises(ConfigurationError, match="batch_sizes"):
        run_export(OmegaConf.merge(settings(checkpoint), {"batch_sizes": [0]}))
    with pytest.raises(ConfigurationError, match="no such file"):
        run_export(settings(tmp_path / "missing.ckpt"))
    with pytest.raises(ConfigurationError, match="ckpt_path"):
        run_export(OmegaConf.structured(Schema))
    lonely = tmp_path / "lonely.ckpt"
    lonely.write_bytes(checkpoint.read_bytes())
    with pytest.raises(ConfigurationError, match="config"):
        run_export(settings(lonely))


def test_preprocessing_is_given_on_the_command_line(checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["export"])
    given = [f"ckpt_path={checkpoint}", "preprocessing={range: [1, 0]}"]
    assert export.main(given) == 1
    assert "range=[1.0, 0.0] cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a: [1", "a: ${b", "a: ${b}", "\x00"])
def test_a_broken_config_of_a_run_is_named(checkpoint, packed, tmp_path, capsys, text):
    (tmp_path / "broken.yaml").write_text(text)
    given = [f"ckpt_path={checkpoint}", f"model={packed}", f"config={tmp_path / 'broken.yaml'}"]
    assert diff.main(given) == 1
    said = capsys.readouterr().err
    assert "broken.yaml cannot be read" in said
    assert said.count("error:") == 1


def run_predict(*arguments):
    return predict.main(list(arguments))


def predictions(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_takes_arrays_tables_and_images(packed, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    pixels = np.array([0, 16])[RNG.integers(0, 2, (5, 8, 8))].astype(float)
    np.save(tmp_path / "a.npy", pixels.astype(np.float32)[:, None])
    np.savez(tmp_path / "b.npz", images=pixels)
    np.savetxt(tmp_path / "c.csv", pixels.reshape(5, 64), delimiter=",")
    np.save(tmp_path / "e.npy", (pixels * 255 / 16).astype(np.uint8)[..., None])
    (tmp_path / "d").mkdir()
    for index, picture in enumerate(pixels):
        bytes_ = (picture * 255 / 16).astype(np.uint8)
        image.fromarray(bytes_).save(tmp_path / "d" / f"{index}.png")
    found = []
    for name in ("a.npy", "b.npz", "c.csv", "e.npy", "d"):
        out = tmp_path / "out.csv"
        code = run_predict(f"model={packed}", f"input={tmp_path / name}", f"out={out}", "threads=1")
        assert code == 0
        found.append([row["prediction"] for row in predictions(out)])
    assert "5 predictions" in capsys.readouterr().out
    assert found[0] == found[1] == found[2] == found[3] == found[4]
    assert all(name.startswith("digit ") for name in found[0])


def test_a_broken_picture_is_named_and_the_others_are_predicted(packed, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "z"):
        image.new("L", (8, 8), 100).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:50])
    (folder / "c.jpg").write_text("no picture")
    given = [f"model={packed}", f"input={folder}", f"out={tmp_path / 'out.csv'}"]
    assert run_predict(*given, "on_error=stop") == 1
    assert "b.png" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
    assert run_predict(*given, "batch_size=1") == 0
    said = capsys.readouterr()
    assert "skipped b.png" in said.err
    assert "skipped c.jpg" in said.err
    assert "2 predictions" in said.out
    assert "2 skipped" in said.out
    assert [row["sample"] for row in predictions(tmp_path / "out.csv")] == ["a.png", "z.png"]
    assert run_predict(f"model={packed}", f"input={folder / 'c.jpg'}") == 1
    assert "none of its samples" in capsys.readouterr().err


WRONG = {
    "no such file": ["input=missing.npy"],
    "Did you mean": ["inputt=a"],
    "key=value": ["a"],
    "input is missing": [],
    "batch_size": ["input={array}", "batch_size=0"],
    "a sample has 7 numbers": ["input={short}"],
    "none of its samples can be read": ["input={nan}"],
    "not finite": ["input={nan}", "on_error=stop"],
    "up to 16": ["input={few}"],
    "from 0 to 500": ["input={large}"],
    "unknown on_error": ["input={array}", "on_error=go"],
    "LOW..HIGH": ["input={array}", "pixels=255"],
    "'-inf..inf'": ["input={array}", "pixels=-inf..inf"],
    "cannot be read": ["input={pickled}"],
    "give images": ["input={text}"],
    "it is empty": ["input={empty}"],
    "name a file": ["input={array}", "out=."],
    "cannot be written": ["input={array}", "out=text.txt/predictions.csv"],
    "ste_lightning.export": ["input={array}", "model={checkpoint}"],
    "format=packed": ["input={array}", "model={foreign}"],
    "Is a directory": ["input={array}", "model=."],
}


@pytest.mark.parametrize("message", WRONG)
def test_predict_refuses(message, checkpoint, packed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {key: tmp_path / f"{key}.npy" for key in ("array", "short", "nan", "pickled")}
    files["text"] = tmp_path / "text.txt"
    files["text"].write_text("hello")
    files["empty"] = tmp_path / "empty.csv"
    files["empty"].write_text("")
    files |= {"checkpoint": checkpoint, "foreign": tmp_path / "foreign"}
    tensor_file.write(files["foreign"], {"a": torch.zeros(1)}, {})
    np.save(files["array"], np.zeros((2, 1, 8, 8)))
    np.save(files["short"], np.zeros((2, 7)))
    np.save(files["nan"], np.full((2, 64), np.nan))
    files |= {key: tmp_path / f"{key}.npy" for key in ("few", "large")}
    np.save(files["few"], np.full((2, 8, 8), 9, np.uint8))
    np.save(files["large"], np.linspace(0, 500, 64).reshape(1, 8, 8))
    np.save(files["pickled"], np.array([{"a": 1}]), allow_pickle=True)
    arguments = [argument.format(**files) for argument in WRONG[message]]
    assert run_predict(f"model={packed}", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "predictions.csv").exists()


def test_predict_runs_without_the_training_framework(packed, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 1, 8, 8), np.float32))
    code = (
        "import sys; from ste_lightning.predict import main; "
        f"assert main(['model={packed}', 'input={tmp_path / 'a.npy'}', "
        f"'out={tmp_path / 'o.csv'}']) == 0; "
        "assert not {'lightning', 'hydra', 'torchmetrics', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help(capsys):
    assert run_predict("--help") == 0
    assert "model=FILE" in capsys.readouterr().out


def test_the_export_command_writes_or_says_why_not(checkpoint, tmp_path, capsys, monkeypatch):
    from ste_lightning import export

    monkeypatch.setattr(sys, "argv", ["export"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path)
    quick = ["seconds=0.01", "samples=20", "batch_sizes=[1]", "threads=1"]
    assert (
        export.main([f"ckpt_path={checkpoint}", f"out={tmp_path / 'a.safetensors'}", *quick]) == 0
    )
    assert "0 of 20 predictions differ" in capsys.readouterr().out
    assert export.main([f"ckpt_path={checkpoint}", "format=onyx", *quick]) == 1
    assert "Did you mean 'onnx'" in capsys.readouterr().err


def test_diff_compares_layer_by_layer_and_names_the_first_that_differs(
    checkpoint, packed, tmp_path, capsys
):
    from ste_lightning import deploy, diff

    given = [f"ckpt_path={checkpoint}", f"model={packed}"]
    assert diff.main([*given, "samples=8"]) == 0
    said = capsys.readouterr().out
    assert "network.2" in said
    assert any(line.startswith(" layer ") for line in said.splitlines())
    assert "0 of 8 predictions differ" in said
    other = deploy.load(packed)
    other.layer("network.5").weight_bits.bitwise_not_()
    deploy.save(other, tmp_path / "other.safetensors")
    np.save(tmp_path / "x.npy", 16 * RNG.random((32, 8, 8)))
    wrong = [given[0], f"model={tmp_path / 'other.safetensors'}", f"input={tmp_path / 'x.npy'}"]
    wrong += ["samples=32"]
    assert diff.main(wrong) == 1
    said = capsys.readouterr().out
    assert "differs by more than rounding: layer 'network.5'" in said
    found = []
    for name in (packed, tmp_path / "other.safetensors"):
        run_predict(f"model={name}", wrong[2], f"out={tmp_path / 'out.csv'}")
        found.append(
            [row["prediction"].removeprefix("digit ") for row in predictions(tmp_path / "out.csv")]
        )
    different = sum(a != b for a, b in zip(*found, strict=True))
    assert different > 1
    assert f"{different} of 32 predictions differ" in said
    capsys.readouterr()
    assert diff.main([]) == 1
    assert "ckpt_path=FILE" in capsys.readouterr().out
    assert diff.main([given[0]]) == 1
    assert "model is missing" in capsys.readouterr().err
    assert diff.main([*given, "samples=0"]) == 1
    assert "positive integer" in capsys.readouterr().err
    np.save(tmp_path / "n.npy", np.full((1, 8, 8), np.nan))
    assert diff.main([*given, f"input={tmp_path / 'n.npy'}"]) == 1
    assert "no sample" in capsys.readouterr().err


def test_all_formats_in_one_table(checkpoint, tmp_path, capsys, monkeypatch):
    from ste_lightning.deploy.export import FORMATS
    from ste_lightning.errors import ConfigurationError

    def refuse(*given):
        raise ConfigurationError("no compiler.")

    known = {name: FORMATS[name] for name in ("packed", "state_dict")}
    broken = replace(
        known["packed"], ending="b", open=lambda path: lambda x: torch.ones(len(x), 10)
    )
    missing = replace(known["packed"], ending="c", write=refuse)
    monkeypatch.setenv("COLUMNS", "200")
    for name in list(FORMATS):
        monkeypatch.delitem(FORMATS, name)
    for name, entry in {**known, "broken": broken, "missing": missing}.items():
        monkeypatch.setitem(FORMATS, name, entry)
    with pytest.raises(SystemExit):
        run_export(settings(checkpoint, format="all", out=str(tmp_path / "net")))
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if "|" not in line and line.split()}
    assert "0 of 50" in rows["packed"]
    assert rows["packed"].count(" ms") == 2
    assert "not run" in rows["state_dict"]
    assert "no compiler" in rows["missing"]
    assert "not kept" in said
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"net.packed.safetensors", "net.integers.safetensors"}
