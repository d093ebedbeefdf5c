"""Learned steps in compiled code equal those in torch operators."""

from __future__ import annotations

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.functional import learned_scale


@pytest.mark.parametrize("offset", [0.0, 0.31])
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15)])
@pytest.mark.parametrize(
    ("shape", "each"),
    [((), False), ((0,), False), ((7,), False), ((33, 65), False), ((9, 41), True)],
)
def test_equals_the_plain_path(
    shape: tuple[int, ...],
    each: bool,
    low: int,
    high: int,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = 3 * torch.randn(shape)
    if x.numel() > 6:  # ties, the ends of the range, and what is no number
        ends = [0.125, 0.375, 0.25 * low, 0.25 * high, float("inf"), -float("inf")]
        x.view(-1)[:6] = torch.tensor(ends)
    found = []
    for native in (True, False):
        if not native:
            monkeypatch.setattr(learned_scale, "_compiles", lambda *_: False)
        leaf = x.clone().requires_grad_()
        scale = torch.tensor(0.25)
        if each:
            scale = torch.linspace(0.25, 0.5, len(x)).view(-1, 1)
        scale.requires_grad_()
        y = SF.learned_scale_quantize(
            leaf, scale, torch.full_like(scale, offset), low, high, SF.surrogate("identity")
        )
        upstream = torch.linspace(-1, 1, y.numel()).view(y.shape)
        found.append((y, *torch.autograd.grad(y, [leaf, scale], upstream)))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=0)
