"""The harness: every quantizer through every check (add a row to tests/quantizer_table.py)."""

from __future__ import annotations

import copy
import io
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quantizer_table import ROWS, Row
from torch import nn
from torch.utils.checkpoint import checkpoint

from ste_lightning.quantizers import (
    Calibrated,
    build,
    quantizer_names,
    specification,
    summarize,
)

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def gradients(q: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of sum(q(x)) in x and in the quantizer's parameters."""
    x = x.detach().clone().requires_grad_()
    return list(torch.autograd.grad(q(x).sum(), [x, *q.parameters()]))


def test_every_registered_quantizer_has_a_row() -> None:
    assert {row.map for row in ROWS} == set(quantizer_names())


@each_row
def test_golden_values_and_gradients(row: Row) -> None:
    q = row.quantizer().double().train(row.training)
    x = row.input()
    expected = torch.tensor(row.golden, dtype=torch.float64)
    torch.testing.assert_close(q(x), expected, rtol=2e-7, atol=1e-7)
    if row.gradient is not None:
        by_x = gradients(q, x)[0]
        expected = torch.tensor(row.gradient, dtype=torch.float64)
        torch.testing.assert_close(by_x, expected, rtol=1e-7, atol=1e-7)
    (q(x).sum() if row.parameter_gradients else x.new_zeros((), requires_grad=True)).backward()
    for name, value in row.parameter_gradients.items():
        grad = q.get_parameter(name).grad
        expected = torch.as_tensor(value, dtype=torch.float64)
        torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-7, msg=name)


@each_row
def test_any_order_in_memory(row: Row) -> None:
    q, x = row.quantizer().double().train(row.training), row.input()
    other = x.movedim(0, -1).contiguous().movedim(-1, 0)
    torch.set_warn_always(True)  # else torch warns of the first one alone
    try:
        torch.testing.assert_close(q(other), q(x))
        for ours, theirs in zip(gradients(q, other), gradients(q, x), strict=True):
            torch.testing.assert_close(ours, theirs)
    finally:
        torch.set_warn_always(False)


values = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.just(8)), elements=st.floats(-5, 5, width=32)
)


@settings(deadline=None, max_examples=150)
@given(values=values, index=st.integers(0, len(ROWS) - 1))
def test_output_lies_on_the_grid(values: np.ndarray, index: int) -> None:
    row = ROWS[index]
    q = row.quantizer().double().eval()
    x = torch.from_numpy(values)
    y = q(x)
    levels, scale = q.integer_levels(x)
    assert levels.dtype == torch.int32
    assert levels.shape == x.shape
    torch.testing.assert_close(levels * scale, y, rtol=1e-12, atol=1e-300)
    slices = levels.reshape(-1, 2) if row.params.get("group_size") else levels
    most = 2 ** float(q.bits) + 1e-9
    assert all(len(s.unique()) <= most for s in slices)
    assert torch.broadcast_shapes(scale.shape, x.shape) == x.shape
    if row.idempotent:
        torch.testing.assert_close(q(y), y, rtol=1e-9, atol=1e-290)


@each_row
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_is_kept_for_values_and_gradients(row: Row, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, wide = row.quantizer().eval(), row.quantizer().double().eval()
    x = torch.randn(4, 8).to(dtype)
    y = q(x)
    assert y.dtype == dtype
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5}.get(dtype, 0.02)
    # a tie may round the other way in fewer digits: compare all but the few that do
    close = torch.isclose(y.double(), wide(x.double()), rtol=tolerance, atol=tolerance)
    assert close.float().mean() > 0.96
    by_x, *by_parameters = gradients(q, x)
    assert by_x.dtype == dtype
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in by_parameters)
    exact = gradients(wide, x.double())[0]
    close = torch.isclose(by_x.double(), exact, rtol=2 * tolerance, atol=2 * tolerance)
    assert close.float().mean() > 0.9


@each_row
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_zeros_give_no_nan(row: Row, dtype: torch.dtype, training: bool) -> None:
    q, x = row.quantizer(initialized=False), torch.zeros(2, 8, dtype=dtype)
    q(x)
    q.train(training)
    assert q(x).isfinite().all()
    assert all(g.isfinite().all() for g in gradients(q, x))
    levels, scale = q.integer_levels(x)
    assert not scale.requires_grad
    torch.testing.assert_close((levels * scale).to(dtype), q.eval()(x))


@each_row
def test_the_specification_builds_the_quantizer_again(row: Row) -> None:
    q = row.quantizer()
    spec = specification(q)
    again = build(spec, row.operand)
    assert specification(again) == spec
    assert (repr(again), summarize(again)) == (repr(q), summarize(q))
    assert json.loads(json.dumps(spec)) == spec  # plain, so that a checkpoint keeps it


@each_row
def test_memory_without_values_is_never_used(row: Row) -> None:
    q = row.quantizer(initialized=False)
    fresh, x = build(specification(q), row.operand), row.input(torch.float32)
    q.to("meta").to_empty(device="cpu")
    torch.manual_seed(0)
    y = q(x)
    torch.manual_seed(0)
    torch.testing.assert_close(y, fresh(x), rtol=0, atol=0)
    again = row.quantizer()  # one that has seen data forgets it
    again.to_empty(device="cpu")
    torch.manual_seed(0)
    torch.testing.assert_close(again(x), y, rtol=0, atol=0)


@each_row
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_inputs_stay_finite(row: Row, dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    q = row.quantizer().eval()
    x = torch.tensor([[info.max, info.tiny, 0.0, -0.0], [info.min, 1.0, 6e4, -6e4]], dtype=dtype)
    far = x / 64  # whose means and sums do not overflow themselves
    assert q(far).isfinite().all()
    assert gradients(q, far)[0].isfinite().all()
    if row.operand == "activations" and row.map != "token":  # whose grid does not depend on x
        assert q(x).isfinite().all()


@pytest.fixture(scope="module")
def all_rows() -> nn.ModuleList:
    modules = [row.quantizer() for row in ROWS if not row.stochastic]
    return nn.ModuleList(modules)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_all_compile_to_one_graph_with_equal_values(all_rows: nn.ModuleList, backend: str) -> None:
    """All rows in one function: one compilation covers the table."""
    torch.manual_seed(0)

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        return [q(x) for q in all_rows]

    def backward(outputs: list[torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(sum(y.sum() for y in outputs), [x, *all_rows.parameters()]))

    x = torch.randn(4, 8).requires_grad_()
    all_rows.train()
    before = copy.deepcopy(all_rows.state_dict())
    compiled = torch.compile(run, fullgraph=True, backend=backend)
    ours = compiled(x)
    ours_gradients = backward(ours, x)
    all_rows.load_state_dict(before)  # running ranges moved
    eager = run(x)
    for q, left, right in zip(all_rows, ours, eager, strict=True):
        torch.testing.assert_close(left, right, msg=repr(q))
    for left, right in zip(ours_gradients, backward(eager, x), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lsq", "lsq_plus", "apot", "uniform"])
def test_the_first_batch_sets_learned_scales_inside_compiled_code_too(name: str) -> None:
    compiled, eager = build({"map": name, "bits": 4}), build({"map": name, "bits": 4})
    assert compiled is not None
    assert eager is not None
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(run(x), eager(x))
    for left, right in zip(
        compiled.state_dict().values(), eager.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(left, right)
    assert compiled.initialized


@each_row
def test_vmap_over_stacked_tensors(row: Row) -> None:
    q = row.quantizer().eval()
    x = torch.randn(3, 2, 8)
    torch.testing.assert_close(torch.func.vmap(q)(x), torch.stack([q(v) for v in x]))
    by_slice = torch.func.vmap(torch.func.grad(lambda v: q(v).sum()))(x)
    torch.testing.assert_close(by_slice, torch.stack([gradients(q, v)[0] for v in x]))


@each_row
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(row: Row, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear, q = nn.Linear(6, 8), row.quantizer()
    with torch.autocast("cpu", dtype=dtype):
        y = q(linear(torch.randn(4, 6)))
        loss = y.float().sum()
    loss.backward()
    assert y.dtype == dtype
    for parameter in (linear.weight, *q.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@each_row
def test_activation_checkpointing(row: Row) -> None:
    q, x = row.quantizer(), torch.randn(4, 8).requires_grad_()
    torch.manual_seed(0)
    plain = torch.autograd.grad(q(x).sum(), [x, *q.parameters()])
    torch.manual_seed(0)
    again = torch.autograd.grad(checkpoint(q, x, use_reentrant=False).sum(), [x, *q.parameters()])
    if "uniform" in row.map and row.operand == "activations":
        return  # its running range has moved, as batch norm's does
    for left, right in zip(plain, again, strict=True):
        torch.testing.assert_close(left, right)


class _All(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList([row.quantizer() for row in ROWS])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [q(x) for q in self.quantizers]


def test_export() -> None:
    model, x = _All().eval(), torch.randn(4, 8)
    program = torch.export.export(model, (x,))
    for row, left, right in zip(ROWS, program.module()(x), model(x), strict=True):
        torch.testing.assert_close(left, right, msg=row.id)


@each_row
def test_pickle_deepcopy_and_state_dict(row: Row) -> None:
    q, x = row.quantizer().eval(), torch.randn(4, 8)
    file = io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    fresh = row.quantizer(initialized=False).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), fresh):
        torch.testing.assert_close(other(x), q(x), rtol=0, atol=0)
    if isinstance(fresh, Calibrated):  # loaded values are not set anew from a batch
        fresh.train()(100 * x)
        assert fresh.state_dict()["initialized"]
        for left, right in zip(fresh.parameters(), q.parameters(), strict=True):
            torch.testing.assert_close(left, right)
    if not row.state and not isinstance(q, Calibrated) and row.operand == "weights":
        assert not q.state_dict()  # parameter-free: float checkpoints load as they are


@each_row
def test_repr_names_the_rule(row: Row) -> None:
    assert f"rule={row.quantizer().rule.name!r}" in repr(row.quantizer())
