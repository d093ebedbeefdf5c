"""Tests of my network and data: `python -m pytest` in this folder."""

import lightning as L
import torch
from my_data import MyData
from my_network import MyNetwork

from ste_lightning import deploy
from ste_lightning.models import Classifier


def test_it_learns_and_packs() -> None:
    """It is better than guessing, and the packed copy says the same."""
    data = MyData(batch_size=64)
    model = Classifier(MyNetwork(width=8), classes=10)
    trainer = L.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, data)
    assert trainer.callback_metrics["val/accuracy"] > 0.3  # guessing gives 0.1

    inputs = next(iter(data.test_dataloader()))[0][:16]
    network = model.network.eval()
    packed = deploy.pack(network, inputs)  # compares the packed copy with the network, too
    with torch.no_grad():
        assert torch.equal(packed(inputs).argmax(1), network(inputs).argmax(1))
