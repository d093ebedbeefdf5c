"""The harness: every backward rule through every check (add a row to tests/rule_table.py)."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rule_table import POINTS, RANGE, ROWS, Row
from torch.utils.checkpoint import checkpoint

from ste_lightning import functional as SF

each_rule = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def grid(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(-2.97, 3.03, 41, dtype=torch.float64).to(dtype)


def coarse(row: Row, x: torch.Tensor) -> torch.Tensor:
    """The gradient of sum(q(x) * weights) divided by the weights."""
    x = x.detach().clone().requires_grad_()
    row.apply(x).sum().backward()
    assert x.grad is not None
    return x.grad


def expected(row: Row, x: torch.Tensor) -> torch.Tensor:
    return row.rule().derivative(x.double()).to(x.dtype)


def test_every_registered_rule_has_a_row() -> None:
    assert {row.name for row in ROWS} == set(SF.surrogate_names())


@each_rule
def test_golden_derivative(row: Row) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64)
    if row.name == "magnitude_aware":  # its derivative depends on the tensor: give it mean|x| = 20
        x = torch.cat([x, torch.full((1,), 20.0 * 8, dtype=torch.float64) - x.sum()])
    torch.testing.assert_close(
        row.rule().derivative(x)[:7],
        torch.tensor(row.golden, dtype=torch.float64),
        atol=6e-5,
        rtol=0,
    )


@each_rule
def test_derivative_is_the_slope_of_the_virtual_forward(row: Row) -> None:
    if row.name == "magnitude_aware":
        pytest.skip("not elementwise; its virtual is mean|x| times hardtanh, checked by golden")
    x, h = grid(), 1e-5
    away = torch.ones_like(x, dtype=torch.bool)
    for kink in row.kinks:
        away &= (x.abs() - kink).abs() > 2 * h
    rule = row.rule()
    slope = (rule.virtual(x + h) - rule.virtual(x - h)) / (2 * h)
    torch.testing.assert_close(slope[away], rule.derivative(x)[away], atol=1e-5, rtol=1e-4)


@each_rule
def test_integral_of_the_derivative(row: Row) -> None:
    x = torch.linspace(-RANGE, RANGE, 800_001, dtype=torch.float64)
    area = torch.trapezoid(row.rule().derivative(x), x)
    assert float(area) == pytest.approx(row.integral, rel=2e-3)


@each_rule
def test_even_rules_are_even(row: Row) -> None:
    x = grid()
    if row.rule().even:
        torch.testing.assert_close(row.rule().derivative(x), row.rule().derivative(-x))


@each_rule
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_is_kept_and_gradient_follows_the_rule(row: Row, dtype: torch.dtype) -> None:
    x = grid(dtype)
    y = row.apply(x)
    assert y.dtype == dtype
    grad = coarse(row, x)
    assert grad.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.04)
    torch.testing.assert_close(grad, expected(row, x), atol=tolerance, rtol=tolerance)


@each_rule
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_inputs_stay_on_the_grid_with_finite_gradients(
    row: Row, dtype: torch.dtype
) -> None:
    info = torch.finfo(dtype)
    x = torch.tensor([0.0, -0.0, info.tiny, -info.tiny, info.max, info.min, 6e4, -6e4], dtype=dtype)
    zero_level, low = (1.0, -1.0) if row.map == "sign" else (0.0, 0.0)
    levels = [zero_level, zero_level, 1.0, low, 1.0, low, 1.0, low]
    assert row.apply(x).tolist() == levels
    if row.name != "magnitude_aware":  # mean|x| itself overflows
        assert coarse(row, x).isfinite().all()


@each_rule
def test_saves_only_what_it_says(row: Row) -> None:
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(64, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        row.apply(x)
    kinds = {"nothing": [], "mask": [torch.bool], "input": [torch.float32]}
    assert [t.dtype for t in saved] == kinds[row.rule().remembers]
    assert all(t.shape == x.shape for t in saved)


@each_rule
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_latent_weights_are_saved_as_they_are_and_get_the_same_gradient(
    row: Row, dtype: torch.dtype
) -> None:
    edges = torch.tensor([0.6, 1.0, 1.5, 0.1, 0.5, 0.0], dtype=torch.float64)
    near = torch.cat([edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1)])
    x = torch.cat([grid(), near, -near]).to(dtype)
    parameter = torch.nn.Parameter(x.clone())
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = row.apply(parameter)
    y.sum().backward()
    own = parameter.untyped_storage().data_ptr()
    assert all(t.untyped_storage().data_ptr() == own for t in saved)
    torch.testing.assert_close(parameter.grad, coarse(row, x), rtol=0, atol=0)


def test_compiles_to_one_graph_with_equal_values() -> None:
    """All rules in one function: one compilation covers the table."""

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        return [row.apply(x) for row in ROWS]

    def gradients(f: object, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = f(x)  # type: ignore[operator]
        return [torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in outputs]

    x = torch.cat([grid(torch.float32), torch.tensor([0.0, -0.0])]).requires_grad_()
    compiled = torch.compile(run, fullgraph=True)
    for row, ours, eager in zip(ROWS, compiled(x), run(x), strict=True):
        torch.testing.assert_close(ours, eager, rtol=0, atol=0, msg=row.id)
    for row, ours, eager in zip(ROWS, gradients(compiled, x), gradients(run, x), strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-5, msg=row.id)


def test_rules_are_built_by_name_inside_compiled_code() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        return SF.sign(x, rule="reste", o=2.0) + SF.step(x)

    x = grid(torch.float32)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), run(x))


def test_a_scheduled_parameter_does_not_recompile() -> None:
    t = torch.tensor(0.5)
    rule = SF.surrogate("ede", t=t)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda x: SF.sign(x, rule), fullgraph=True, backend=counter)
    for value in (0.5, 1.0, 2.0, 4.0):
        t.fill_(value)
        x = grid(torch.float32).requires_grad_()
        compiled(x).sum().backward()
        torch.testing.assert_close(x.grad, SF.surrogate("ede", t=value).derivative(x.detach()))
    assert counter.frame_count == 1


@each_rule
def test_vmap_and_functional_grad(row: Row) -> None:
    if row.name == "magnitude_aware":
        pytest.skip("not elementwise: a slice has its own mean")
    x = torch.stack([grid(torch.float32), grid(torch.float32).flip(0)])
    torch.testing.assert_close(torch.func.vmap(row.apply)(x), row.apply(x))
    per_sample = torch.func.vmap(torch.func.grad(lambda v: row.apply(v).sum()))(x)
    torch.testing.assert_close(per_sample, coarse(row, x))


@each_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(row: Row, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 5)
    x = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=dtype):
        y = row.apply(linear(x))
        loss = y.float().sum()
    loss.backward()
    assert y.dtype == dtype
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
    assert linear.weight.grad.isfinite().all()


@each_rule
def test_activation_checkpointing(row: Row) -> None:
    x = grid(torch.float32).requires_grad_()
    checkpoint(row.apply, x, use_reentrant=False).sum().backward()
    torch.testing.assert_close(x.grad, coarse(row, x))


class _Module(torch.nn.Module):
    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.row.apply(x)


@each_rule
def test_export(row: Row) -> None:
    x = torch.cat([grid(torch.float32), torch.tensor([0.0, -0.0])])
    program = torch.export.export(_Module(row), (x,))
    torch.testing.assert_close(program.module()(x), row.apply(x))


@each_rule
def test_pickle_and_deepcopy(row: Row) -> None:
    rule, x = row.rule(), grid()
    for other in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        torch.testing.assert_close(other.derivative(x), rule.derivative(x), rtol=0, atol=0)


@settings(deadline=None, max_examples=30)
@given(
    values=arrays(np.float32, st.integers(1, 20), elements=st.floats(-4, 4, width=32)),
    index=st.integers(0, len(ROWS) - 1),
)
def test_coarse_gradient_is_upstream_times_derivative(values: np.ndarray, index: int) -> None:
    row = ROWS[index]
    x = torch.from_numpy(values).requires_grad_()
    upstream = torch.linspace(-2, 2, x.numel())
    (row.apply(x) * upstream).sum().backward()
    torch.testing.assert_close(
        x.grad, upstream * row.rule().derivative(x.detach()), rtol=1e-6, atol=1e-7
    )
