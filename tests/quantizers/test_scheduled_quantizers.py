"""Schedules attached to quantizers: buffers that resume, no recompilation, the right values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear
from ste_lightning.quantizers import Operand, Quantizer, build

SPECS: list[dict[str, Any]] = [
    {"rule": "ede", "schedule": "ede"},
    {"rule": "reste", "schedule": "reste"},
    {"map": "dorefa", "bits": 2, "schedule": "bits"},
    {"map": "uniform", "bits": 2, "schedule": {"bits": {"start": 6, "end": 3}}},
    {"map": "pact", "bits": 2, "schedule": "bits"},
    {"map": "progressive"},
    {"map": "progressive", "schedule": "parq"},
    {"map": "lsq", "schedule": {"delay": {"start": 0.3}}},
    {"map": "sign", "rule": "tanh", "schedule": {"strength": "linear", "slope": {
        "function": "log", "start": 1.0, "end": 5.0, "begin": 0.5}}},
]  # fmt: skip
each_spec = pytest.mark.parametrize(
    "spec", SPECS, ids=lambda s: f"{s.get('map', 'sign')}-{s.get('schedule')}"
)


def make(spec: Any, operand: Operand = "activations") -> Quantizer:
    quantizer = build(spec, operand)
    assert isinstance(quantizer, Quantizer)
    return quantizer


def state_and_gradient(q: Quantizer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    y = q(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def test_ede_in_the_mapping_form_is_the_preset() -> None:
    spelled = {
        "t": {"function": "log", "start": 0.1, "end": 10.0},
        "k": {"function": "ede_gain", "start": 0.1, "end": 10.0},
    }
    short, long = make(SPECS[0]), make({"rule": "ede", "schedule": spelled})
    x = torch.linspace(-2, 2, 9)
    for progress in (0.0, 0.3, 1.0):
        short.set_progress(progress)
        long.set_progress(progress)
        t = 0.1 * 100**progress
        rule = SF.surrogate("ede", t=t, k=max(1 / t, 1))
        for q in (short, long):
            torch.testing.assert_close(state_and_gradient(q, x)[1], rule.derivative(x))


def test_only_scheduled_parameters_have_keys() -> None:
    assert set(make(SPECS[0]).state_dict()) == {"rule_t", "rule_k"}
    assert not make({"rule": "ede"}).state_dict()
    layer = QuantLinear(2, 2, weight_quantizer=SPECS[0])
    assert "weight_quantizer.rule_t" in layer.state_dict()


@each_spec
def test_the_state_resumes_from_a_checkpoint(spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    q = make(spec)
    q(x)  # the first batch
    q.set_progress(0.45)
    expected = state_and_gradient(copy.deepcopy(q), x)
    assert set(q.schedules) == set(make(spec).schedules)
    for other in (make(spec), pickle.loads(pickle.dumps(q)), copy.deepcopy(q)):
        other.load_state_dict(q.state_dict())
        torch.testing.assert_close(state_and_gradient(other, x), expected, rtol=0, atol=0)


@each_spec
def test_progress_changes_the_quantizer_without_a_new_compilation(spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    q, eager = make(spec), make(spec)
    q(x), eager(x)
    torch._dynamo.reset()  # all quantizers share forward's code, and its limit of compilations
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(q, fullgraph=True, backend=counter)
    seen = []
    for progress in (0.0, 0.2, 0.5, 0.8, 1.0):
        q.set_progress(progress)
        eager.set_progress(progress)
        ours = state_and_gradient(compiled, x)
        torch.testing.assert_close(ours, state_and_gradient(eager, x))
        seen.append(torch.cat(ours))
    assert counter.frame_count == 1
    assert not torch.equal(seen[0], seen[-1])


def test_moving_and_casting_keeps_the_schedule_alive() -> None:
    q = make(SPECS[0]).double().to("cpu")
    q.set_progress(0.5)
    assert float(q.rule.parameters()["t"]) == pytest.approx(1.0)
    x = torch.linspace(-2, 2, 9, dtype=torch.bfloat16)
    assert state_and_gradient(make(SPECS[0]).bfloat16(), x)[1].dtype == torch.bfloat16


def test_delay_is_float_first_and_exactly_quantized_afterwards() -> None:
    q = make({"map": "sign", "schedule": {"delay": {"start": 0.5}}})
    x = torch.tensor([0.1, -3.0, 0.7])
    y, gradient = state_and_gradient(q, x)
    assert torch.equal(y, x)
    assert gradient.tolist() == [1, 1, 1]
    q.set_progress(0.5)
    y, gradient = state_and_gradient(q, x)
    assert y.tolist() == [1, -1, 1]
    assert gradient.tolist() == [1, 0, 1]


def test_relax_mixes() -> None:
    q = make({"map": "sign", "schedule": "relax"})
    q.set_progress(0.25)
    x = torch.tensor([0.5, -0.2])
    torch.testing.assert_close(q(x), 0.75 * x + 0.25 * torch.tensor([1.0, -1.0]))


def test_progressive_forward_and_deterministic_evaluation() -> None:
    q = make("progressive")
    x = torch.tensor([0.1, -0.5, 0.0, 2.0])
    for progress in (0.0, 0.1, 1.0):
        q.set_progress(progress)
        rho = max(4 ** (-10 * progress), 1e-7)
        expected = (x / rho).clamp(-1, 1)
        torch.testing.assert_close(q(x), expected)
    assert q.eval()(x).tolist() == [1, -1, 1, 1]
    q = make({"map": "lsbq", "schedule": "parq"}, "weights")
    w = torch.tensor([[0.3, -0.1]])
    torch.testing.assert_close(q(w), torch.tensor([[0.2, -0.1]]))  # rho = 1 clips to mean|w|
    q.set_progress(1.0)
    torch.testing.assert_close(q(w), torch.tensor([[0.2, -0.2]]))


def test_bit_widths_fall_to_the_target() -> None:
    q = make({"map": "dorefa", "schedule": {"bits": {"start": 4, "end": 2}}})
    x = torch.linspace(0, 1, 101)
    counts = []
    for progress in (0.0, 0.4, 1.0):
        q.set_progress(progress)
        counts.append(len(q(x).unique()))
        assert len(q.integer_levels(x)[0].unique()) == counts[-1]
    assert counts == [16, 8, 4]


def test_a_schedule_can_be_replaced() -> None:
    q = make("progressive")
    q.schedule("rho", "linear", start=1.0, end=0.0)
    q.set_progress(0.25)
    assert float(q.rho) == 0.75
    assert "rho~linear" in repr(q)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rule": "ede", "schedule": "edd"}, "Did you mean 'ede'"),
        ({"rule": "clipped", "schedule": "ede"}, "unknown scheduled parameter 't'"),
        ({"rule": "ede", "schedule": {"t": "lgo"}}, "Did you mean 'log'"),
        ({"rule": "ede", "schedule": {"t": {"function": "linear"}}}, "t=0.0"),
        ({"rule": "reste", "schedule": {"o": {"function": "linear"}}}, "order"),
        ({"map": "uniform", "schedule": {"bits": {"end": 1}}}, "from 2 to 8"),
        ({"schedule": {"strength": {"function": "constant", "value": 2.0}}}, "0 to 1"),
    ],
)
def test_wrong_schedules(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(spec)
