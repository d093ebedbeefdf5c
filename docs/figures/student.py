"""The two-layer binary student in its plainest form: every latent weight at every step."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ste_lightning import functional as SF


@dataclasses.dataclass
class Run:
    """One training: ``latent`` is (steps + 1, n), ``right`` the teacher's signs (n,)."""

    latent: Tensor
    right: Tensor

    @property
    def signed(self) -> Tensor:
        """Latent weight times its right sign: below zero is wrong."""
        return self.latent * self.right

    @property
    def wrong(self) -> Tensor:
        """Wrong signs of every iterate."""
        return (self.signed[1:] < 0).sum(1)

    @property
    def wrong_averaged(self) -> Tensor:
        """Wrong signs of the majority vote over all steps so far."""
        votes = self.latent[1:].sign().cumsum(0)
        return ((votes >= 0) != (self.right > 0)).sum(1)


def train(
    n: int, m: int, samples: int, noise: float = 0.0, rule: str = "relu", steps: int = 150,
    seed: int = 0, lr: float = 1.0,
) -> Run:  # fmt: skip
    """Train y = v^T step(Z w) on labels of a secret teacher, by the straight-through estimator."""
    derivative = SF.surrogate(rule).derivative
    draw = torch.Generator().manual_seed(seed)
    Z = torch.randn(samples, m, n, generator=draw)
    right = torch.randn(n, generator=draw).sign()
    v = torch.full((m,), m**-0.5)
    y = SF.hard_step(Z @ right / n**0.5) @ v + noise * torch.randn(samples, generator=draw)
    x = 0.1 * torch.randn(n, generator=draw)
    path = [x.clone()]
    for _ in range(steps):
        a = Z @ SF.hard_sign(x) / n**0.5  # forward: signs
        residual = SF.hard_step(a) @ v - y
        delta = derivative(a) * v * residual[:, None]  # backward: f' in place of step'
        x = x - lr * torch.einsum("imn,im->n", Z, delta) / samples
        path.append(x.clone())
    return Run(torch.stack(path), right)
