"""Issues of Lightning's own quantization-aware training"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelPruning
from plain_modules import FOUR_BITS, Plain, digits, trainer
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.callbacks import QuantizationAwareTraining, load_quantized
from ste_lightning.layers import QuantizedLayer, QuantLinear


class Masked(Plain):
    """Its forward takes tensors and numbers by name, with defaults, and any further ones."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, **rest: Any
    ) -> Tensor:
        y = self.net(x) * scale
        return y if mask is None else y.masked_fill(mask, -1e4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        mask = torch.zeros(len(x), 10, dtype=torch.bool)
        mask[:, 9] = y != 9
        return F.cross_entropy(self(x, mask=mask, scale=0.5, other=None), y)


def test_forward_takes_keyword_arguments() -> None:
    """Keyword arguments of `forward` (Lightning issues 15862, 16609)"""
    module = Masked()
    trainer([QuantizationAwareTraining(FOUR_BITS)]).fit(module, digits(4))
    x = torch.rand(3, 64)
    mask = torch.ones(3, 10, dtype=torch.bool)
    assert torch.equal(module(x, mask=mask), torch.full((3, 10), -1e4))
    assert torch.equal(module(x, scale=2.0), 2 * module(x))


def test_the_saved_checkpoint_is_tested(tmp_path: Any) -> None:
    """`Trainer.test(ckpt_path=...)` after training and from a new process's module (12896)"""
    path = str(tmp_path / "trained.ckpt")
    module = Plain()
    run = trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2)
    run.fit(module, digits(4))
    run.save_checkpoint(path)
    straight = run.test(module, digits(8), verbose=False)
    assert run.test(module, digits(8), ckpt_path=path, verbose=False) == straight
    fresh = trainer([QuantizationAwareTraining(FOUR_BITS)])
    assert fresh.test(Plain(), digits(8), ckpt_path=path, verbose=False) == straight
    loaded = load_quantized(Plain, path)
    assert trainer([]).test(loaded, digits(8), verbose=False) == straight


@pytest.mark.parametrize("pruning_first", [True, False])
def test_together_with_pruning(pruning_first: bool) -> None:
    """Together with `ModelPruning`, in both orders (11047)"""
    module = Plain()
    pruning = ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=True)
    callbacks = [QuantizationAwareTraining(FOUR_BITS), pruning]
    trainer(callbacks[::-1] if pruning_first else callbacks, max_epochs=2).fit(module, digits(3))
    layers = [m for m in module.net if isinstance(m, nn.Linear)]
    zeros = sum(int((m.weight == 0).sum()) for m in layers)
    assert zeros / sum(m.weight.numel() for m in layers) > 0.4
    quantized = module.net[3]
    assert isinstance(quantized, QuantLinear)
    # a symmetric grid has a level at 0: what is pruned stays 0 in the deployed network
    levels = deploy.pack(module.net.eval()).layer("3").integer_weight()
    assert bool((levels[quantized.weight == 0] == 0).all())


def test_layers_need_no_list_of_what_to_fuse() -> None:
    """Batch norm and activation are folded without a list of modules to fuse (12890)"""
    module = Plain()
    trainer([QuantizationAwareTraining(FOUR_BITS)]).fit(module, digits(4))
    net = module.net.eval()
    packed = deploy.pack(net)
    x = next(iter(digits(2)))[0]
    with torch.no_grad():
        torch.testing.assert_close(packed(x), net(x))
    kinds = {type(packed.layer(name)) for name in packed.layer_names()}
    assert nn.BatchNorm1d not in kinds or len(kinds) > 2


def test_training_resumes(tmp_path: Any) -> None:
    """`fit(ckpt_path=...)` resumes to the same weights as without the interruption (7926, 8485)"""
    path = str(tmp_path / "half.ckpt")
    straight = Plain()
    straight.load_state_dict(start := Plain().state_dict())
    trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(straight, digits(4))
    half = Plain()
    half.load_state_dict(start)
    run = trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=1)
    run.fit(half, digits(4))
    run.save_checkpoint(path)
    resumed = Plain()
    trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(
        resumed, digits(4), ckpt_path=path
    )
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_the_model_is_not_changed_when_training_ends() -> None:
    """The trained module stays in float containers and can train on (16609)"""
    module = Plain()
    trainer([QuantizationAwareTraining(FOUR_BITS)]).fit(module, digits(2))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert all(value.dtype != torch.qint8 for value in before.values())
    trainer([QuantizationAwareTraining(FOUR_BITS)]).fit(module, digits(2))
    assert sum(isinstance(m, QuantizedLayer) for m in module.modules()) == 2
    assert not torch.equal(module.net[3].weight, before["net.3.weight"])
