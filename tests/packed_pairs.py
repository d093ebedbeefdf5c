"""Trained networks and what they are packed into, as the tests of packed chains compare them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["both", "noisy"]


def noisy(network: nn.Module) -> nn.Module:
    """Batch norms of both signs, with statistics of data, some channels constant."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.weight.data[::7] = 0.0
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=3.0)
            module.running_var.uniform_(0.5, 9.0)
    return network.eval()


def both(network: nn.Module, x: Tensor, packed: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what the trained and the packed network compute."""
    with torch.no_grad():
        return network(x), packed(x)
