"""Networks that train twice, as the tests of lean products compare them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["loss_curve", "watched"]


def watched(net: nn.Module, quantizer: type[nn.Module]) -> nn.Module:
    """A copy with quantizers that somebody watches: the plain composition."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, quantizer):
            module.register_forward_hook(lambda *_: None)
    return net


def loss_curve(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """The loss of 200 steps on one batch."""
    curve = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return torch.tensor(curve, dtype=torch.float64)
