import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import LightningModule
from omegaconf import OmegaConf, open_dict

from ste_lightning.io.paths import CONF, RECIPES
from ste_lightning.running import recipes
from ste_lightning.running.build import build, build_all, build_function, build_model
from ste_lightning.running.hydra_plugins import register

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))
BASE = """# My own recipe.
defaults:
  - override /model: mlp
  - override /data: digits
  - override /quantizer: float
  - override /optimizer: adam

model:
  network: {hidden: [8, 8]}
data: {batch_size: 512}
trainer: {max_epochs: 1}
"""
SILENT = ["logger=none", "callbacks.progress=null"]


def test_all_recipes_of_the_readme_are_shipped():
    assert {
        "teacher_student",
        "recurrence",
        "non_gaussian",
        "non_gaussian_normalized",
        "sample_size",
        "digits_mlp",
        "digits_cnn",
        "digits_float",
        "rules_compare",
    } <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_builds_and_its_header_is_complete(name, tmp_path):
    register()
    if "/sweeper: optuna" in (RECIPES / f"{name}.yaml").read_text():
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"+recipe={name}"], return_hydra_config=True)
    with_output = OmegaConf.merge(
        cfg, {"hydra": {"runtime": {"output_dir": str(tmp_path)}, "mode": "RUN"}}
    )
    HydraConfig.instance().set_config(with_output)
    with open_dict(cfg):
        del cfg["hydra"]
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    build("data", settings["data"])
    build_model("model", settings["model"], LightningModule)
    build("trainer", settings["trainer"], logger=False)
    build_all("callbacks", settings["callbacks"])
    for where in ("summary", "figures"):
        for node in settings[where].values():
            build_function(where, node)
    assert settings["name"] == name
    text = (RECIPES / f"{name}.yaml").read_text()
    assert recipes.describe(RECIPES / f"{name}.yaml").endswith(".")
    for heading in ("Shows:", "Source:", "Command:", "Expected:", "Time:"):
        assert f"# {heading}" in text
    assert f"+recipe={name}" in text


def test_a_flat_folder_of_own_recipes(cli, tmp_path):
    own = tmp_path / "my_recipes"
    own.mkdir()
    (own / "mine.yaml").write_text(BASE)
    status, out, err = cli("--config-dir", str(own), "+recipe=mine", *SILENT)
    assert status == 0, err
    assert (tmp_path / "outputs" / "mine").is_dir()
    status, out, _ = cli(f"--config-dir={own}", "--help-all")
    assert "My own recipe." in out
    assert "digits_mlp" in out


def test_a_pack_with_a_recipe_folder_and_own_groups(cli, tmp_path):
    pack = tmp_path / "pack"
    (pack / "recipe").mkdir(parents=True)
    (pack / "optimizer").mkdir()
    (pack / "optimizer" / "slow.yaml").write_text("name: sgd\nlr: 0.001\nschedule: constant\n")
    (pack / "recipe" / "mine.yaml").write_text(BASE)
    status, _, err = cli("--config-dir", str(pack), "+recipe=mine", "optimizer=slow", *SILENT)
    assert status == 0, err


def test_folders_in_the_environment_come_before_the_shipped_recipes(cli, tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "lowbit").mkdir(parents=True)
    (own / "digits_mlp.yaml").write_text(BASE.replace("My own recipe", "Mine instead"))
    (own / "lowbit" / "deep.yaml").write_text(BASE)
    monkeypatch.setenv("STE_RECIPES", str(own))
    _, out, _ = cli("--help-all")
    assert "Mine instead." in out
    assert "lowbit/deep" in out
    status, out, err = cli("+recipe=lowbit/deep", *SILENT)
    assert status == 0, err
    assert (tmp_path / "outputs" / "lowbit-deep").is_dir()


def test_own_classes_in_a_recipe(cli, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n"
        "class Tiny(nn.Sequential):\n"
        "    def __init__(self, quantizer, classes):\n"
        "        from ste_lightning.layers import QuantLinear\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8),\n"
        "            QuantLinear(8, classes, weight_quantizer=quantizer))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    status, _, err = cli(
        "+recipe=digits_mlp",
        "model=classifier",
        "+model.network={_target_: own_network.Tiny, quantizer: {map: sign}, classes: 10}",
        "trainer.max_epochs=1",
        *SILENT,
    )
    assert status == 0, err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("quantiser: {}\n", "Did you mean 'quantizer'?"),
        ("seed: many\n", "'many'"),
        ("optimizer: {lrr: 1}\n", "lrr"),
        ("data: {size: 3}\n", "unknown key of data 'size'"),
        ("oops: [1\n", "not valid YAML"),
    ],
)
def test_a_typo_in_a_recipe_is_refused(cli, tmp_path, change, message):
    own = tmp_path / "own"
    own.mkdir()
    key = change.split(":")[0]
    kept = [line for line in BASE.splitlines() if not line.startswith(f"{key}:")]
    (own / "mine.yaml").write_text("\n".join(kept) + "\n" + change)
    status, _, err = cli("--config-dir", str(own), "+recipe=mine", *SILENT)
    assert status == 1
    assert message in err
    assert err.count("error:") == 1


def test_the_command_line_starts_without_torch_and_scipy():
    code = "import sys, ste_lightning.train; sys.exit(len({'torch', 'scipy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_registering_twice_is_harmless():
    register()
    register()
    assert recipes.searched == [RECIPES]


def test_flags_may_stand_between_overrides(cli):
    for arguments in (
        ("+recipe=teacher_student", "--cfg", "job", "data.samples=77"),
        ("--cfg", "job", "+recipe=teacher_student", "data.samples=77"),
    ):
        status, printed, _ = cli(*arguments)
        assert status == 0
        assert "samples: 77" in printed
