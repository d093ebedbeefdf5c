"""The forward maps, the registry and its errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional.estimator.surrogate import _RULES

reals = arrays(np.float64, st.integers(0, 30), elements=st.floats(allow_nan=False))


@settings(deadline=None)
@given(reals)
def test_sign_and_step_against_their_definitions(values: np.ndarray) -> None:
    x = torch.from_numpy(values)
    assert SF.sign(x).tolist() == np.where(values >= 0, 1.0, -1.0).tolist()
    assert SF.step(x).tolist() == np.where(values > 0, 1.0, 0.0).tolist()


def test_signed_zeros_and_nan() -> None:
    x = torch.tensor([0.0, -0.0, float("nan")])
    assert SF.sign(x).tolist() == [1.0, 1.0, 1.0]
    assert SF.step(x).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("quantize", [SF.sign, SF.step])
def test_input_is_not_modified_and_layout_does_not_matter(quantize: object) -> None:
    base = torch.randn(6, 8)
    view = base.t()[::2]
    before = base.clone()
    result = quantize(view)  # type: ignore[operator]
    assert torch.equal(base, before)
    assert torch.equal(result, quantize(view.contiguous()))  # type: ignore[operator]


def test_integer_input_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"x\.dtype.*floating-point"):
        SF.sign(torch.tensor([1, -1]))


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'reste'"):
        SF.surrogate("reest")
    with pytest.raises(ConfigurationError, match="Did you mean 'width'"):
        SF.surrogate("clipped", widht=2.0)
    with pytest.raises(ConfigurationError, match="already built"):
        SF.surrogate(SF.surrogate("clipped"), width=2.0)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("clipped", {"width": 0.0}),
        ("clipped_relu", {"upper": -1.0}),
        ("reste", {"o": 0.5}),
        ("reste", {"t": 0.05}),
        ("swish", {"beta": 0.0}),
        ("fourier", {"terms": 0}),
        ("leaky", {"leak": -0.1}),
        ("custom", {"derivative": 3}),
    ],
)
def test_parameters_out_of_range(name: str, params: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(params))):
        SF.surrogate(name, **params)


@pytest.mark.parametrize(
    ("derivative", "reason"),
    [
        (torch.sin, "odd"),
        (torch.sign, "odd"),
        (lambda x: -torch.ones_like(x), "uphill"),
        (lambda x: x.sum(), "shape"),
        (lambda x: x / 0, "finite"),
    ],
)
def test_rules_that_cannot_descend_are_refused_with_the_reason(
    derivative: object, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        SF.surrogate("custom", derivative=derivative)


def test_aliases_and_specification_round_trip() -> None:
    assert SF.surrogate("hardtanh", width=0.5) == SF.surrogate("clipped", width=0.5)
    spec = SF.surrogate("reste", o=2.0).specification()
    assert SF.surrogate(spec) == SF.surrogate("reste", o=2.0)
    assert SF.surrogate(spec.pop("rule"), **spec) == SF.surrogate("reste", o=2.0)


def test_a_registered_rule_that_cannot_descend_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(SF.Surrogate):
        def derivative(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(ConfigurationError, match="odd, so its expected"):
        SF.register("odd")(Odd)
    assert "odd" not in SF.surrogate_names()


def test_a_rule_of_your_own_in_ten_lines() -> None:
    try:

        @SF.register("cosine")
        @dataclasses.dataclass(frozen=True)
        class Cosine(SF.Surrogate):
            """f'(x) = cos(x) on [-pi/2, pi/2]."""

            def derivative(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cos(x) * (x.abs() <= torch.pi / 2)

        x = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
        SF.sign(x, rule="cosine").sum().backward()
        torch.testing.assert_close(x.grad, torch.tensor([1.0, 0.5403023, 0.0]))
        # The virtual forward comes by itself.
        torch.testing.assert_close(
            SF.surrogate("cosine").virtual(torch.tensor([1.0])), torch.tensor([0.84147098])
        )
        with pytest.raises(ConfigurationError, match="another backward rule"):
            SF.register("cosine")(SF.rules.ReLU)
    finally:
        _RULES.pop("cosine", None)
