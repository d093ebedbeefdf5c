"""Estimate batch norm's statistics anew, with the weights at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["reestimate_batch_norm"]


@torch.no_grad()
def reestimate_batch_norm(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None
) -> int:
    """Replace the running means and variances by their averages over ``batches``.

    While quantized weights flip, the running statistics lag behind the weights; averaging with
    the final weights often gives back some accuracy. Everything but batch norm is in eval mode
    meanwhile, and over processes the statistics are averaged.

    Args:
        model: a module with batch norm layers; without any nothing happens. Frozen ones keep
            their statistics.
        batches: of training data.
        forward: what runs one batch; default ``model(batch)``.

    Returns:
        The number of batches used.

    Source: Nagel et al. 2022, arXiv 2203.11086, section 3.1.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and _is_trained(m)]
    if not norms:
        return 0
    run = model if forward is None else forward
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    count = 0
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        for batch in batches:
            run(batch)
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    if distributed.is_available() and distributed.is_initialized():
        for norm in norms:
            for statistic in (norm.running_mean, norm.running_var):
                assert statistic is not None
                distributed.all_reduce(statistic)
                statistic.div_(distributed.get_world_size())
    return count


def _is_trained(norm: _BatchNorm) -> bool:
    frozen = norm.affine and not any(p.requires_grad for p in norm.parameters())
    return norm.track_running_stats and not frozen
