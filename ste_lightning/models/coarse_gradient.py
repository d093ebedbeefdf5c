"""Loss and coarse gradient of many binary two-layer networks, in one pass over their data.

    a = Z w,  w = sign(x) / sqrt(n),    r = sum_j v_j step(a_j) - y,    loss = 1/(2N) sum r^2,
    coarse gradient  g = (1/N) sum_i Z_i^T (f'(a_i) * v) r_i

On a full batch g depends on the latent weights only through their signs. So gradients are
remembered by sign pattern and computed again only for patterns that a trial has not shown
lately: once trials have settled, or keep visiting the same few patterns, a step costs a table
look-up. What is remembered is bitwise what would be computed: trials are evaluated in fixed
blocks, so the same patterns always meet the same kernels at the same addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning import functional as SF

__all__ = ["CoarseGradient", "coarse_loss", "evaluate", "response"]

_BLOCK = 2**18  # floats of Z in a block of trials: a megabyte, about what an L2 cache holds


def _blocks(Z: Tensor) -> Iterator[slice]:
    trials = Z.shape[0]
    size = trials if Z.is_cuda else max(1, _BLOCK // max(1, Z[0].numel()))
    return (slice(start, min(start + size, trials)) for start in range(0, trials, size))


def _hidden(Z: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """Return Z as one matrix per trial, and the pre-activations Z w, shape (trials, N, m)."""
    trials, samples, m, n = Z.shape
    rows = Z.reshape(trials, samples * m, n)
    # Signs first, scale second: ties of discrete data stay exactly zero, in any order of the sum.
    a = torch.bmm(sign.unsqueeze(1), rows.transpose(1, 2)).mul_(n**-0.5)
    return rows, a.view(trials, samples, m)


def _second_layer(active: Tensor, v: Tensor) -> Tensor:
    """Return sum_j v_j active_j, added in the order of j: the bits depend on nothing else."""
    y = active[..., 0] * v[:, :1]
    for j in range(1, v.shape[1]):
        y.addcmul_(active[..., j], v[:, j : j + 1])
    return y


@torch.no_grad()
def response(Z: Tensor, sign: Tensor, v: Tensor) -> Tensor:
    """Return the networks' outputs y = v^T step(Z w), by the kernel that training uses.

    Labels made by it are met exactly (residual 0) by a student that has the teacher's signs.

    Args:
        Z: inputs, shape (trials, N, m, n).
        sign: signs of the first layer's weights, +1 or -1, shape (trials, n).
        v: second layer, shape (trials, m).

    Returns:
        Outputs, shape (trials, N).
    """
    y = Z.new_empty(Z.shape[:2])
    for block in _blocks(Z):
        _, a = _hidden(Z[block], sign[block])
        y[block] = _second_layer(SF.hard_step(a), v[block])
    return y


@torch.no_grad()
def evaluate(
    Z: Tensor, y: Tensor, sign: Tensor, v: Tensor, rule: SF.Surrogate
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss (trials,), coarse gradient (trials, n) and gradient in v (trials, m).

    Args:
        Z: inputs, shape (trials, N, m, n).
        y: labels, shape (trials, N).
        sign: signs of the first layer's weights, shape (trials, n).
        v: second layer, shape (trials, m).
        rule: the step's backward rule.
    """
    parts = [_evaluate_block(Z[b], y[b], sign[b], v[b], rule, True) for b in _blocks(Z)]
    loss, gradient, gradient_v = (torch.cat(part) for part in zip(*parts, strict=True))
    return loss, gradient, gradient_v


def _evaluate_block(
    Z: Tensor, y: Tensor, sign: Tensor, v: Tensor, rule: SF.Surrogate, train_v: bool
) -> tuple[Tensor, ...]:
    trials, samples, m, _ = Z.shape
    rows, a = _hidden(Z, sign)
    active = SF.hard_step(a)
    residual = _second_layer(active, v).sub_(y)
    loss = residual.square().sum(1).div_(2 * samples)
    pulled = residual.unsqueeze(2) * v.unsqueeze(1)
    if rule.name == "relu":
        pulled.mul_(active)  # f' is the step itself
    elif rule.name != "identity":
        pulled.mul_(rule.derivative(a))
    gradient = torch.bmm(pulled.view(trials, 1, samples * m), rows).squeeze(1).div_(samples)
    if not train_v:
        return loss, gradient
    return loss, gradient, torch.bmm(residual.unsqueeze(1), active).squeeze(1).div_(samples)


class CoarseGradient:
    """Evaluates loss and coarse gradient, and remembers them by sign pattern on a full batch.

    A batch is full when the same tensors come again, unwritten since (identity and version).
    Nothing is remembered while v is trained, or while a schedule drives the rule's parameters.

    Args:
        rule: the step's backward rule.
        slots: most sign patterns remembered per trial; fewer where the table would exceed an
            eighth of the data.
    """

    def __init__(self, rule: SF.Surrogate, slots: int = 256) -> None:
        self.rule = rule
        self.slots = slots
        self._steady = not any(isinstance(p, Tensor) for p in rule.parameters().values())
        self._inputs: tuple[Tensor, ...] = ()
        self._versions: tuple[int, ...] = ()
        self._table: _Table | None = None

    def __reduce__(self) -> tuple[type[CoarseGradient], tuple[SF.Surrogate, int]]:
        """Copy and pickle without data: what is remembered belongs to a run, not to a model."""
        return CoarseGradient, (self.rule, self.slots)

    def __call__(self, Z: Tensor, y: Tensor, sign: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Return loss, gradient, and, when v requires a gradient, gradient in v."""
        if v.requires_grad:
            return evaluate(Z, y, sign, v, self.rule)
        inputs = (Z, y, v)
        if any(t.is_inference() for t in inputs):  # testing: no versions to tell changes by
            return evaluate(Z, y, sign, v, self.rule)[:2]
        versions = tuple(t._version for t in inputs)
        if (
            not self._steady
            or len(self._inputs) != 3
            or any(new is not old for new, old in zip(inputs, self._inputs, strict=True))
            or versions != self._versions
        ):
            self._inputs, self._versions, self._table = inputs, versions, None
            return evaluate(Z, y, sign, v, self.rule)[:2]
        if self._table is None:
            self._table = _Table(Z, y, v, self.rule, self.slots)
        return self._table.look_up(sign)


class _Table:
    """Per trial, a direct-mapped table from sign patterns to loss and gradient."""

    def __init__(self, Z: Tensor, y: Tensor, v: Tensor, rule: SF.Surrogate, slots: int) -> None:
        trials, samples, m, n = Z.shape
        slots = 2 ** (max(1, min(slots, samples * m // 8)).bit_length() - 1)
        self._data = (Z, y, v, rule)
        self._blocks = list(_blocks(Z))
        self._trials = torch.arange(trials, device=Z.device)
        # Zobrist hashing: a random code per coordinate, summed over the positive ones.
        codes = torch.randint(slots, (n,), generator=torch.Generator().manual_seed(0))
        self._codes, self._mask = codes.to(Z.device), slots - 1
        self._signs = torch.zeros(trials, slots, n, dtype=torch.int8, device=Z.device)
        self._losses, self._gradients = Z.new_empty(trials, slots), Z.new_empty(trials, slots, n)
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def look_up(self, sign: Tensor) -> tuple[Tensor, Tensor]:
        pattern = sign.to(torch.int8)
        if self._last is not None and torch.equal(pattern, self._last[0]):
            return self._last[1], self._last[2]
        slot = ((pattern > 0) * self._codes).sum(1) & self._mask
        new = (self._signs[self._trials, slot] != pattern).any(1)
        if new.any():
            size = self._blocks[0].stop
            for index in (new.nonzero()[:, 0] // size).unique_consecutive().tolist():
                self._fill(self._blocks[index], slot, sign, pattern)
        loss, gradient = self._losses[self._trials, slot], self._gradients[self._trials, slot]
        self._last = (pattern, loss, gradient)
        return loss, gradient

    def _fill(self, block: slice, slot: Tensor, sign: Tensor, pattern: Tensor) -> None:
        Z, y, v, rule = self._data
        loss, gradient = _evaluate_block(Z[block], y[block], sign[block], v[block], rule, False)
        where = (self._trials[block], slot[block])
        self._signs[where], self._losses[where] = pattern[block], loss
        self._gradients[where] = gradient


class _CoarseLoss(torch.autograd.Function):
    """Per-trial losses whose gradients are the coarse ones."""

    @staticmethod
    def forward(
        ctx: Any, sign: Tensor, v: Tensor, Z: Tensor, y: Tensor, gradient: CoarseGradient
    ) -> Tensor:
        loss, *gradients = gradient(Z, y, sign, v)
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [grads[0].unsqueeze(1) * g for g in ctx.saved_tensors]
        return scaled[0], scaled[1] if len(scaled) > 1 else None, None, None, None


def coarse_loss(sign: Tensor, v: Tensor, Z: Tensor, y: Tensor, gradient: CoarseGradient) -> Tensor:
    """Return the losses (trials,), differentiable in ``sign`` and ``v`` by the coarse gradient.

    The gradient with respect to ``sign`` is theory's g, the coarse gradient in w, without the
    further factor 1/sqrt(n) of autograd through sign(x) / sqrt(n).

    Args:
        sign: binary weights as -1 and +1, shape (trials, n).
        v: second layer, shape (trials, m).
        Z: inputs, shape (trials, N, m, n).
        y: labels, shape (trials, N).
        gradient: what evaluates, and remembers.
    """
    with torch.autocast(Z.device.type, enabled=False):
        loss: Tensor = _CoarseLoss.apply(sign, v, Z, y, gradient)  # type: ignore[no-untyped-call]
    return loss
