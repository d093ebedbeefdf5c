"""Side by side with bitorch, brevitas and torchao where those are installed and right.

None is a dependency: each test is skipped without its library. Where a peer is wrong, the test
says so and holds ours to the paper.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.functional import schedules
from ste_lightning.quantizers import Quantizer, build

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def make(spec: Any, operand: Any = "weights") -> Quantizer:
    quantizer = build(spec, operand)
    assert isinstance(quantizer, Quantizer)
    return quantizer


def value_and_gradient(quantize: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    y = quantize(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def inputs() -> torch.Tensor:
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(0)) * 1.5


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Sign", {"map": "sign", "rule": "identity"}),
        ("ApproxSign", {"map": "sign", "rule": "approx"}),
        ("SwishSign", {"map": "sign", "rule": "swish"}),
    ],
)
def test_bitorch_signs(theirs: str, ours: dict[str, Any]) -> None:
    quantizations = pytest.importorskip("bitorch.quantizations")
    x = torch.cat([inputs().flatten(), torch.zeros(1), -torch.zeros(1)])
    reference = value_and_gradient(getattr(quantizations, theirs)(), x)
    torch.testing.assert_close(value_and_gradient(make(ours), x), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_bitorch_dorefa_and_pact(bits: int) -> None:
    quantizations = pytest.importorskip("bitorch.quantizations")
    x = inputs()
    y, gradient = value_and_gradient(make({"map": "dorefa", "bits": bits}, "activations"), x)
    torch.testing.assert_close(y, quantizations.InputDoReFa(bits)(x))
    assert torch.equal(gradient, ((x >= 0) & (x <= 1)).float())  # theirs is 1 everywhere
    weights = make({"map": "dorefa", "bits": bits})
    torch.testing.assert_close(weights(x), quantizations.WeightDoReFa(bits)(x))
    assert quantizations.WeightDoReFa(bits)(torch.zeros(3)).isnan().all()  # 0 / 0
    assert weights(torch.zeros(3)).isfinite().all()

    pact = pytest.importorskip("bitorch.layers.pact").Pact(bits)
    mine = make({"map": "pact", "bits": bits, "alpha": 1.5}, "activations")
    with torch.no_grad():
        pact.alpha.fill_(1.5)
    reference, ours = value_and_gradient(pact, x), value_and_gradient(mine, x)
    torch.testing.assert_close(ours, reference)
    mine(x).sum().backward()
    pact(x).sum().backward()
    torch.testing.assert_close(mine.get_parameter("alpha").grad, pact.alpha.grad)


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.1, 0.5])
def test_bitorch_progressive_sign(progress: float) -> None:
    module = pytest.importorskip("bitorch.quantizations.progressive_sign")
    reference = module.ProgressiveSign(use_global_scaling=False, initial_scale=progress)
    ours = make("progressive")
    ours.set_progress(progress)
    expected = value_and_gradient(reference, inputs())
    torch.testing.assert_close(value_and_gradient(ours, inputs()), expected, rtol=1e-4, atol=1e-5)
    evaluated = reference.eval()(inputs())
    torch.testing.assert_close(ours.eval()(inputs()), evaluated)


def test_brevitas_binary_and_ternary() -> None:
    quant = pytest.importorskip("brevitas.core.quant")
    scaling = pytest.importorskip("brevitas.core.scaling")
    x = inputs()
    binary = quant.BinaryQuant(scaling.ConstScaling(1.0))
    expected = value_and_gradient(lambda v: binary(v)[0], x)
    ours = value_and_gradient(make({"map": "sign", "rule": "identity"}), x)
    torch.testing.assert_close(ours, expected)
    ternary = quant.TernaryQuant(scaling.ConstScaling(1.0), 0.5)
    values, gradient = value_and_gradient(lambda v: ternary(v)[0], x)
    spec = {"map": "ternary", "threshold": 0.5, "rule": "identity"}
    ours = value_and_gradient(make(spec), x)
    torch.testing.assert_close(ours[0], values)
    assert gradient[x.abs() < 0.5].eq(0).all()  # their dead zone never learns
    assert ours[1].eq(1).all()


def test_torchao_bitnet() -> None:
    bitnet = pytest.importorskip("torchao.prototype.quantized_training.bitnet")
    w = inputs()
    scale = bitnet.get_bitnet_scale(w)
    expected = bitnet.quantize_bitnet_weight(w, scale)
    levels, ours = make("bitnet").integer_levels(w)
    assert torch.equal(levels, expected.int())
    torch.testing.assert_close(ours.reshape(()), scale.reshape(()))


@pytest.mark.parametrize("dim", [None, -1])
@pytest.mark.parametrize("step", [0, 3, 50, 90, 100])
def test_torchao_parq(dim: int | None, step: int) -> None:
    optim = pytest.importorskip("torchao.prototype.parq.optim")
    quant = pytest.importorskip("torchao.prototype.parq.quant")
    w = inputs()
    granularity = "tensor" if dim is None else "channel"
    q, grid = quant.LSBQuantizer().quantize(w, 1, dim=dim)
    torch.testing.assert_close(make({"map": "lsbq", "granularity": granularity})(w), q)
    reference = copy.deepcopy(w)
    rho = optim.ProxPARQ(0, 100).apply_(reference, q, grid, step, dim=dim)
    assert schedules.mirror_sigmoid(step / 100) == pytest.approx(rho, abs=1e-6)
    ours = make({"map": "lsbq", "granularity": granularity, "schedule": "parq"})
    ours.set_progress(step / 100)
    torch.testing.assert_close(ours(w), reference, rtol=1e-4, atol=1e-5)


def test_torchao_one_bit_weights_vanish_and_ours_do_not() -> None:
    qat = pytest.importorskip("torchao.quantization.qat")
    linear = torch.nn.Linear(8, 4, bias=False)
    config = qat.IntxFakeQuantizeConfig(torch.int1, granularity="per_channel", is_symmetric=True)
    fake = qat.FakeQuantizedLinear.from_linear(linear, weight_config=config)
    assert fake.weight_fake_quantizer(linear.weight).eq(0).all()
    ours = make({"map": "uniform", "bits": 1})(linear.weight)
    assert torch.equal(ours.sign(), SF.hard_sign(linear.weight))


def test_torchao_affine_groups() -> None:
    primitives = pytest.importorskip("torchao.quantization.quant_primitives")
    w = inputs()
    scale, zero = primitives.choose_qparams_affine(
        w,
        primitives.MappingType.ASYMMETRIC,
        (1, 8),
        torch.int8,
        quant_min=0,
        quant_max=15,
        scale_dtype=torch.float32,
        zero_point_dtype=torch.int32,
    )
    spec = {"map": "uniform", "bits": 4, "group_size": 8, "symmetric": False}
    ours = make(spec)
    groups = w.reshape(16, 4, 8)
    expected = (groups / scale[..., None]).round() + zero[..., None]
    expected = (expected.clamp(0, 15) - zero[..., None]) * scale[..., None]
    torch.testing.assert_close(ours(w), expected.reshape(16, 32))
