"""LightningCLI and Fabric"""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from plain_modules import FOUR_BITS, Plain, digits, mlp, trainer

from ste_lightning import deploy
from ste_lightning.callbacks import QuantizationAwareTraining, load_quantized
from ste_lightning.convert import quantize_
from ste_lightning.layers import QuantLinear

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: {folder}
  callbacks:
    - class_path: ste_lightning.callbacks.QuantizationAwareTraining
      init_args:
        policy:
          - match: "*"
            weight: {{map: lsq, bits: 4}}
            input: {{map: lsq, bits: 4, signed: false}}
        calibrate_batches: 2
model:
  lr: 0.05
"""


class Digits(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return digits(4)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LightningCLI` with the callback in a YAML file; the run's own config runs again"""
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(CONFIG.format(folder=tmp_path))
    monkeypatch.setattr(sys, "argv", ["fit.py"])
    cli = LightningCLI(
        Plain, Digits, args=["fit", "--config", str(file)], seed_everything_default=0
    )
    assert isinstance(cli.model.net[3], QuantLinear)
    assert cli.model.hparams.lr == 0.05
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert isinstance(load_quantized(Plain, checkpoint).net[3], QuantLinear)
    again = LightningCLI(
        Plain,
        Digits,
        args=["fit", "--config", str(tmp_path / "config.yaml"), "--model.lr=0.1"],
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
    )
    assert again.model.hparams.lr == 0.1


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fabric(precision: Any, tmp_path: Path) -> None:
    """`Fabric`: `quantize_` before `setup`, its checkpoints load, the trained network packs"""
    fabric = L.Fabric(accelerator="cpu", devices=1, precision=precision)
    torch.manual_seed(0)
    net = mlp()
    quantize_(net, FOUR_BITS)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    model, optimizer = fabric.setup(net, optimizer)
    data = fabric.setup_dataloaders(digits(8))
    losses = []
    for _ in range(4):
        for x, y in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x).float(), y)
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-8:]) < sum(losses[:8])
    fabric.save(tmp_path / "state.ckpt", {"model": model, "optimizer": optimizer})
    other = mlp()
    quantize_(other, FOUR_BITS)
    state = {"model": other}
    fabric.load(tmp_path / "state.ckpt", state, strict=False)
    x = next(iter(digits(1)))[0]
    with torch.no_grad():
        expected = net.eval()(x)
        assert torch.equal(other.eval()(x), expected)
        torch.testing.assert_close(deploy.pack(other)(x), expected)


def test_callbacks_of_fabric_and_trainer_give_the_same_weights() -> None:
    """The same loop by `Fabric` and by the `Trainer`: equal weights"""
    torch.manual_seed(0)
    module = Plain()
    net = mlp()
    net.load_state_dict(module.net.state_dict())
    trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(module, digits(4))
    quantize_(net, FOUR_BITS)
    fabric = L.Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), 1e-2, momentum=0.9))
    for _ in range(2):
        for x, y in fabric.setup_dataloaders(digits(4)):
            optimizer.zero_grad()
            fabric.backward(F.cross_entropy(model(x), y))
            optimizer.step()
    for key, value in module.net.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
