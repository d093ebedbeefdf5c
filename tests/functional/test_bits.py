"""Bits of signs and of windows, by compiled code, numpy and torch: the same bytes."""

from __future__ import annotations

import math

import pytest
import torch
from window_rules import windows

from ste_lightning import functional as SF
from ste_lightning.functional.saved import bit_masks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", windows(), ids=lambda r: f"{r.name}{r.parameters()}")
def test_windows_are_the_rule_to_the_last_bit(rule: SF.Surrogate, dtype: torch.dtype) -> None:
    edges = torch.tensor([0.6, 0.7, 1.0, 0.0, -0.0], dtype=torch.float64).to(dtype)
    up = torch.nextafter(edges, torch.tensor(9.0, dtype=dtype))
    down = torch.nextafter(edges, torch.tensor(-9.0, dtype=dtype))
    special = torch.tensor([float("inf"), float("-inf"), float("nan")], dtype=dtype)
    x = torch.cat([edges, up, down, -edges, -up, -down, special, torch.randn(70).to(dtype)])
    window = rule.window(dtype)
    assert window is not None
    packed, mask = bit_masks.pack(x, False, window)
    assert mask is not None
    assert packed.numel() == mask.numel() == 4 * -(-x.numel() // 32)
    signs = bit_masks.unpack(packed, x.shape, -1.0, dtype)
    assert torch.equal(signs, SF.hard_sign(x))
    grad = torch.randn(x.shape).to(dtype)
    expected = grad * rule.derivative(x)
    assert torch.equal(bit_masks.mask_gradient(grad.clone(), mask, window.outside), expected)
    assert torch.equal(bit_masks.signs(x), signs)
    assert torch.equal(bit_masks.clip_gradient(grad.clone(), x, rule), expected)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 127, 128, 129, 300])
@pytest.mark.parametrize("odd", [2.0, -2.0, math.nan, math.inf, -math.inf])
def test_one_element_outside_the_window_is_found_wherever_it_is(size: int, odd: float) -> None:
    window = SF.surrogate("clipped").window(torch.float32)
    assert window is not None
    inside, out = torch.linspace(-1, 1, size), torch.empty(size)
    bit_masks.signs_inside(inside, out, window)
    assert torch.equal(out, SF.hard_sign(inside))
    if bit_masks.compiled_code(inside) is not None:
        assert bit_masks.signs_inside(inside, out, window)
    for place in range(size):
        x = inside.clone()
        x[place] = odd
        assert not bit_masks.signs_inside(x, out, window)
        assert torch.equal(out, SF.hard_sign(x.nan_to_num(1.0, math.inf, -math.inf)))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("rule", windows(), ids=lambda r: f"{r.name}{r.parameters()}")
def test_compiled_and_torch_packing_write_the_same_bytes(
    rule: SF.Surrogate, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = torch.tensor([0.6, 0.7, 1.0, 0.0, 1e-40])
    edges = torch.cat([edges, edges.nextafter(edges + 9), edges.nextafter(edges - 9)])
    finite = torch.cat([edges, -edges, torch.randn(81)])
    window = rule.window(finite.dtype)
    for special in ([], [float("inf")], [float("-inf")], [float("nan")]):
        x = torch.cat([finite, torch.tensor(special)])
        found = []
        for hidden in (False, True):
            with monkeypatch.context() as patch:
                if hidden:
                    patch.setattr(bit_masks, "compiled_code", lambda _: None)
                found.append(bit_masks.pack(x, strict, window))
        for ours, other in zip(*found, strict=True):
            assert ours is not None
            assert other is not None
            assert torch.equal(ours, other)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masks_treat_infinite_gradients_as_products_do(
    compiled: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(bit_masks, "compiled_code", lambda _: None)
    x = torch.tensor([0.5, 2.0, 0.5, 2.0, 0.5]).to(dtype)
    grad = torch.tensor([math.inf, math.inf, math.nan, -math.inf, 3.0]).to(dtype)
    _, mask = bit_masks.pack(x, False, SF.surrogate("clipped").window(dtype))
    assert mask is not None
    expected = grad * (x.abs() <= 1)
    found = bit_masks.mask_gradient(grad.clone(), mask, 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_of_threads_are_the_whole(
    threads: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bit_masks, "compiled_code", lambda _: None)
    monkeypatch.setattr(bit_masks, "_LEAST", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, grad = torch.randn(32 * 11 + 5).to(dtype), torch.randn(32 * 11 + 5).to(dtype)
    values = torch.empty_like(x)
    packed, mask = bit_masks.pack(x, False, SF.surrogate("clipped").window(dtype), values)
    assert mask is not None
    assert torch.equal(values, SF.hard_sign(x))
    assert torch.equal(bit_masks.unpack(packed, x.shape, -1, dtype), values)
    assert torch.equal(bit_masks.mask_gradient(grad.clone(), mask, 0.0), grad * (x.abs() <= 1))
