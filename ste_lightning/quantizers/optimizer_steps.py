"""How many optimizer steps have been made: what moves once per step must know when one is over.

A forward pass may be repeated within a step: activation checkpointing computes it again in the
backward pass, gradient accumulation runs several. The count lives in a tensor, so that compiled
code reads it without being compiled anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["optimizer_steps"]

_STEPS = torch.zeros((), dtype=torch.int64)


def optimizer_steps() -> Tensor:
    """Return the number of steps that all optimizers of this process have made, on the CPU.

    The tensor is the counter itself: read it, do not change it.
    """
    return _STEPS


def _count(optimizer: Any, args: Any, kwargs: Any) -> None:
    _STEPS.add_(1)


register_optimizer_step_post_hook(_count)
