"""The Trainer's options"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_modules import FOUR_BITS, Plain, digits, mlp, trainer
from torch import Tensor

from ste_lightning import deploy
from ste_lightning.callbacks import QuantizationAwareTraining
from ste_lightning.layers import QuantLinear

SIGN = {"match": "*", "weight": "sign", "input": "sign"}


class Manual(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
        optimizer.step()


def test_manual_optimization() -> None:
    """Manual optimization: the same weights as by automatic optimization"""
    torch.manual_seed(0)
    one, two = Plain(), Manual()
    two.load_state_dict(one.state_dict())
    for module in (one, two):
        trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(module, digits(4))
    for key, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[key], value), key


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision(precision: Any) -> None:
    """`precision="bf16-mixed"`, `"bf16-true"` and `"64-true"`: trains, and packs"""
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)

    class Losses(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self(batch[0]).float(), batch[1])
            losses.append(loss.item())
            return loss

    losses: list[float] = []
    torch.manual_seed(0)
    module = Losses(lr=0.05)
    run = trainer([QuantizationAwareTraining([SIGN])], precision=precision, max_epochs=6)
    run.fit(module, digits(8))
    assert module.net[3].weight.dtype == dtype
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    net = module.net.eval()
    x = next(iter(digits(1)))[0]
    with torch.no_grad():
        expected = net(x.to(dtype)).float()
        ours = deploy.pack(net)(x)
    # bfloat16 has 8 bits of mantissa: torch rounds after every layer, we do not
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-4
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled_inner_network(backend: str) -> None:
    """`torch.compile` of the inner network: one graph, the same weights as without"""
    torch.manual_seed(0)
    plain, compiled = Plain(), Plain()
    compiled.load_state_dict(plain.state_dict())
    compiled.net = torch.compile(compiled.net, backend=backend, fullgraph=True)
    for module in (plain, compiled):
        trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(module, digits(4))
    torch.testing.assert_close(
        compiled.net._orig_mod[3].weight, plain.net[3].weight, rtol=1e-4, atol=1e-5
    )


class Quiet(Plain):
    """Logs outside of compiled code: torch 2.12 and 2.13 fail on `self.log` (Lightning 21836)."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])


@pytest.mark.slow
def test_compiled_module() -> None:
    """`torch.compile` of the LightningModule: the same weights as without"""
    torch.manual_seed(0)
    plain, inner = Quiet(), Quiet()
    inner.load_state_dict(plain.state_dict())
    trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(plain, digits(4))
    compiled = torch.compile(inner, backend="eager")
    trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2).fit(compiled, digits(4))
    assert isinstance(inner.net[3], QuantLinear)
    torch.testing.assert_close(inner.net[3].weight, plain.net[3].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
        {"fast_dev_run": True},
        {"overfit_batches": 1},
        {"limit_train_batches": 2, "num_sanity_val_steps": 2, "val_check_interval": 1},
        {"deterministic": True, "detect_anomaly": True, "benchmark": False},
        {"max_steps": 3, "max_epochs": -1, "inference_mode": False},
        {"reload_dataloaders_every_n_epochs": 1, "barebones": True},
    ],
    ids=lambda options: ", ".join(options),
)
def test_options(options: dict[str, Any]) -> None:
    """Accumulation, clipping, `fast_dev_run`, overfitting, limits, anomalies, `barebones`"""
    if options.get("barebones"):
        options = {
            **options,
            **dict.fromkeys(("enable_model_summary", "enable_progress_bar"), False),
        }
    module = Plain()
    before = module.net[0].weight.detach().clone()
    trainer([QuantizationAwareTraining(FOUR_BITS)], **options).fit(module, digits(4), digits(1))
    assert isinstance(module.net[3], QuantLinear)
    assert not torch.equal(module.net[0].weight, before)


def test_layers_by_hand_need_no_callback() -> None:
    """Quantized layers in a module's own code train without the callback"""
    module = Plain()
    module.net = mlp()
    module.net[3] = QuantLinear(24, 24, weight_quantizer="sign", input_quantizer="sign")
    before = module.net[3].weight.detach().clone()
    trainer([]).fit(module, digits(2))
    assert not torch.equal(module.net[3].weight, before)
