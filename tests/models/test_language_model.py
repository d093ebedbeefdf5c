"""Next-character training: bits per character, checks, continuation, checkpoints."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from torch import nn

from ste_lightning.data import Text
from ste_lightning.errors import ConfigurationError
from ste_lightning.models import LanguageModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]

NETWORK = {
    "_target_": "ste_lightning.models.networks.CharacterModel",
    **{"vocabulary": 8, "length": 12, "width": 16, "depth": 1, "heads": 2},
}


def trainer(folder, **options):
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False,
                     enable_progress_bar=False, enable_model_summary=False,
                     default_root_dir=folder, **options)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    (tmp_path / "text").write_text("abcdef" * 200)
    return Text(tmp_path / "text", length=12, batch_size=16, validation=0.1, test=0.1,
                steps_per_epoch=40)  # fmt: skip


def test_a_ternary_model_learns_what_comes_next(tmp_path, data):
    L.seed_everything(0, verbose=False)
    model, run = LanguageModel(NETWORK), trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    data.setup()
    before = trainer(tmp_path).test(model, data, verbose=False)[0]
    assert before["test/bits_per_character"] == pytest.approx(before["test/loss"] / math.log(2))
    assert before["test/bits_per_character"] > 2
    run.fit(model, data)
    assert {"train/loss", "val/loss", "val/bits_per_character"} <= set(run.callback_metrics)
    after = run.test(model, data, verbose=False)[0]
    assert after["test/bits_per_character"] < 1.3
    drawn = model.eval().continued(data.encoded("abcabcdefabcdef")[None], 6, seed=1)
    assert drawn.shape == (1, 21)
    assert torch.equal(drawn, model.continued(drawn[:, :15], 6, seed=1))
    run.save_checkpoint(tmp_path / "saved.ckpt")
    again = LanguageModel.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(drawn[:, :12]), model(drawn[:, :12]))


def test_a_text_with_more_characters_than_the_network_is_refused(tmp_path, data):
    model = LanguageModel({**NETWORK, "vocabulary": 5})
    with pytest.raises(ConfigurationError, match="the text has 6 different characters"):
        trainer(tmp_path, max_steps=1).fit(model, data)
    with pytest.raises(ConfigurationError, match="6 different"):
        trainer(tmp_path).test(model, data)


def test_wrong_settings_are_refused(tmp_path, data):
    with pytest.raises(ConfigurationError, match="label_smoothing"):
        LanguageModel(NETWORK, label_smoothing=1.0)
    with pytest.raises(ConfigurationError, match="Did you mean 'adam'"):
        LanguageModel(NETWORK, {"name": "adamv"})
    one = LanguageModel(nn.Sequential(nn.Embedding(8, 4), nn.Flatten(), nn.Linear(48, 8)))
    data.setup()
    with pytest.raises(ConfigurationError, match="expected"):
        one._loss(next(iter(data.train_dataloader())))
    with pytest.raises(ConfigurationError, match="one character"):
        LanguageModel(NETWORK).continued(torch.zeros(1, 0, dtype=torch.long), 1)
