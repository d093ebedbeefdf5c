"""Rules, quantizers, modules and data of one's own in recipes."""

import dataclasses
import itertools
import re
import sys
from importlib import import_module
from importlib.metadata import EntryPoint

import pytest

from ste_lightning import extensions
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import Surrogate, register
from ste_lightning.quantizers import Sign, build, quantizer_class, register_quantizer
from ste_lightning.running import build as building

registry = import_module("ste_lightning.functional.estimator.surrogate")

MODULE = """
import dataclasses
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from ste_lightning import functional as SF

@SF.register("own_bell")
@dataclasses.dataclass(frozen=True)
class Bell(SF.Surrogate):
    def derivative(self, x):
        return 1 / torch.cosh(x)

class Net(nn.Sequential):
    def __init__(self, width=32):
        layers = [nn.Linear(8, width), nn.Hardtanh(), nn.Linear(width, width), nn.Hardtanh()]
        super().__init__(*layers, nn.Linear(width, 2))

class Module(L.LightningModule):
    def __init__(self, net, plain: dict | None = None, nets=()):
        super().__init__()
        self.net, self.plain, self.nets = net, plain, nets
    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)

class Data(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(64, 8), torch.randint(2, (64,))), 16)
"""
RECIPE = """# My own module, network, data and rule.
imports: [own_bell_parts]
model:
  _target_: own_bell_parts.Module
  net: {_target_: own_bell_parts.Net, width: 16}
data: {_target_: own_bell_parts.Data}
callbacks:
  qat:
    _target_: ste_lightning.callbacks.QuantizationAwareTraining
    policy: [{match: '*', weight: sign, input: {map: sign, rule: own_bell}}]
trainer: {max_epochs: 1}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe with a module beside it; the import path is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    own = tmp_path / "own"
    own.mkdir()
    (own / "own_bell_parts.py").write_text(MODULE)
    (own / "mine.yaml").write_text(RECIPE)
    yield own
    sys.modules.pop("own_bell_parts", None)


def test_everything_of_ones_own_beside_a_recipe(cli, folder):
    words = ["--config-dir", str(folder), "+recipe=mine", "logger=none", "callbacks.progress=null"]
    status, _, err = cli(*words)
    assert status == 0, err
    node = {
        "_target_": "own_bell_parts.Module",
        "net": {"_target_": "own_bell_parts.Net"},
        "plain": {"_target_": "own_bell_parts.Net", "width": 2},
        "nets": [{"_target_": "own_bell_parts.Net"}, 1],
    }
    made = building.build_model("model", node, object)
    assert (type(made.net).__name__, made.plain) == ("Net", node["plain"])
    assert [type(one).__name__ for one in made.nets] == ["Net", "int"]
    node["plain"]["widht"] = 2
    with pytest.raises(ConfigurationError, match=r"model\.plain 'widht'\. Did you mean 'width'"):
        building.build_model("model", node, object)


def test_an_installed_package_brings_its_rules(folder, monkeypatch):
    sys.path.insert(0, str(folder))
    (folder / "broken_parts.py").write_text("raise OSError('torn')")
    offered = [
        EntryPoint("bell", "own_bell_parts", extensions.GROUP),
        EntryPoint("broken", "broken_parts", extensions.GROUP),
    ]
    monkeypatch.setattr(extensions, "entry_points", lambda group: offered)
    extensions.load_installed.cache_clear()
    monkeypatch.delitem(registry._RULES, "own_bell", raising=False)
    with pytest.warns(UserWarning, match=r"broken_parts, an extension .* cannot be imported: OSEr"):
        quantizer = build({"map": "sign", "rule": "own_bell"})
    assert quantizer.rule.name == "own_bell"
    extensions.load_installed.cache_clear()


def test_a_quantizer_does_not_take_another_ones_name():
    with pytest.raises(ConfigurationError, match="another quantizer has this name"):

        @register_quantizer("sign")
        class Other(Sign):
            pass

    assert quantizer_class("sign") is Sign


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "subprocess.run", "pickle.loads", "shutil.rmtree"]
)
def test_a_recipe_starts_no_processes_and_evaluates_nothing(target):
    node = {"_target_": target, "_args_": ["echo no"]}
    for words in (node, {"_target_": "builtins.dict", "inner": node}, {**node, "_partial_": True}):
        with pytest.raises(ConfigurationError, match="blocklisted"):
            building.build("x", words)
    partial = building.build("x", {"_target_": "torch.nn.Linear", "_partial_": True, "bias": False})
    assert partial(2, 3).bias is None


NESTED = RECIPE.replace("[own_bell_parts]", "[[own_bell_parts]]")
BILLIONS = "a: &a [0, 1, 2]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghijkl")
)
WRONG = {  # what is appended to the module, the recipe, and what is said
    "it would end the process": ("import sys; sys.exit(0)", RECIPE, r"SystemExit: 0 \(at "),
    "no name": ("", NESTED, "imports=.*name modules, as package.module"),
    "a name of before": ("", RECIPE.replace("own_bell_parts", "colorsys"), "hidden by .* rename"),
    "a checkpoint for nobody": (
        "Module.on_save_checkpoint = lambda self, kept: kept.update(mine=Net(2))",
        RECIPE,
        "could not be read again: it holds own_bell_parts.Net",
    ),
    "itself": ("", f"defaults: [mine]\n{RECIPE}", "a recipe is in its own defaults"),
    "billions of values": ("", f"{RECIPE}{BILLIONS}", "aliases stand for more than 65536 values"),
    "nothing to train on": (
        "Data.train_dataloader = lambda self: DataLoader(TensorDataset(torch.zeros(2, 8)), 16, "
        "drop_last=True)",
        RECIPE,
        "Data gives no batch to train on",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_own_code_that_cannot_be_used_is_one_message(cli, folder, case):
    more, recipe, said = WRONG[case]
    (folder / "own_bell_parts.py").write_text(f"{MODULE}\n{more}\n")
    (folder / "colorsys.py").write_text(MODULE)
    (folder / "mine.yaml").write_text(recipe)
    import_module("colorsys")
    status, _, err = cli("--config-dir", str(folder), "+recipe=mine", "logger=none")
    assert status == 1
    assert re.search(f"^error: .*{said}", err, re.MULTILINE), err
    assert "Traceback" not in err


def test_what_lightning_says_once_is_not_lost_to_the_rehearsal(cli, folder):
    none = "Module.training_step = lambda self, batch, index: None"
    (folder / "own_bell_parts.py").write_text(f"{MODULE}\n{none}\n")
    words = ["--config-dir", str(folder), "+recipe=mine", "logger=none"]
    with pytest.warns(UserWarning, match="training_step. returned .None"):
        assert cli(*words)[0] == 0


def test_what_is_no_rule_or_quantizer_is_not_registered():
    for name in ("", 3):
        with pytest.raises(ConfigurationError, match="use a name"):
            register_quantizer(name)
        with pytest.raises(ConfigurationError, match="use a name"):
            register(name)
    for thing in (len, int, dataclasses.make_dataclass("Plain", ["a"])):
        with pytest.raises(ConfigurationError, match="a frozen dataclass that derives from Surr"):
            register("own_thing")(thing)
        with pytest.raises(ConfigurationError, match="a class that derives from Quantizer"):
            register_quantizer("own_thing")(thing)
    with pytest.raises(ConfigurationError, match="the shape and kind of its input"):

        @register("own_mask")
        @dataclasses.dataclass(frozen=True)
        class Mask(Surrogate):
            def derivative(self, x):
                return x.abs() < 1
