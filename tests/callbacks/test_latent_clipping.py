import lightning as L
import pytest
import torch
from torch import nn

from ste_lightning.callbacks import LatentClipping
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear


class Wandering(L.LightningModule):
    """Every step throws all weights far out."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.binary = QuantLinear(4, 4)
        self.unquantized = QuantLinear(4, 2, weight_quantizer=None)

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(100)
        return self.unquantized(self.binary(self.first(batch))).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(module, *callbacks):
    trainer = L.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=2))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_only_weights_with_a_quantizer_are_clipped():
    module = Wandering()
    train(module, LatentClipping(width=0.5))
    assert module.binary.weight.abs().max() == 0.5
    assert module.first.weight.abs().max() > 0.5
    assert module.unquantized.weight.abs().max() > 0.5
    assert module.binary.bias.abs().max() > 0.5


@pytest.mark.parametrize("width", [0, -1.0])
def test_a_width_that_is_not_positive_is_refused(width):
    with pytest.raises(ConfigurationError, match="width"):
        LatentClipping(width)
