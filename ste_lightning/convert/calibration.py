"""Set the scales of input quantizers from several batches instead of the first one alone."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.functional.estimator.eager import is_backward

__all__ = ["Calibration"]

_LARGEST = 1 << 20  # values kept per quantizer


class Calibration:
    """While attached, every input quantizer starts from all the inputs seen so far.

    Only quantizers with an ``initialize(x)`` take part. Their values are averaged over
    processes. At most about a million values are kept per quantizer, whole samples of each batch.

    Args:
        model: a module with quantized layers.
        batches: how many batches will be seen; each contributes its share of the values kept.
        kept: quantizer's name -> inputs seen so far; new ones join them.
    """

    def __init__(
        self, model: nn.Module, batches: int, kept: dict[str, list[Tensor]] | None = None
    ) -> None:
        self.model = model
        self.share = max(_LARGEST // max(batches, 1), 1)
        self.kept = {} if kept is None else kept
        self.handles: list[Any] = []

    def attach(self) -> None:
        """Start to collect."""
        for name, layer in named_quantized_layers(self.model):
            for key in ("input_quantizer", "score_quantizer"):
                quantizer = getattr(layer, key, None)
                if quantizer is not None and callable(getattr(quantizer, "initialize", None)):
                    kept = self.kept.setdefault(f"{name}.{key}", [])
                    collect = functools.partial(_collect, kept, self.share)
                    self.handles.append(quantizer.register_forward_pre_hook(collect))

    def detach(self) -> None:
        """Stop for now."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def finish(self) -> None:
        """Stop, and forget the inputs."""
        self.detach()
        self.kept.clear()


@torch.no_grad()
def _collect(kept: list[Tensor], share: int, quantizer: nn.Module, args: tuple[Any, ...]) -> None:
    """Let a quantizer start from what it has seen; holds no model, as hooks are copied too."""
    x = args[0].detach()
    if not quantizer.training or x.numel() == 0 or is_backward():
        return  # activation checkpointing shows the same input again
    samples = max(share * len(x) // x.numel(), 1) if x.dim() else 1
    kept[:] = [one.to(x.device) for one in kept]  # those of a checkpoint
    if not kept or kept[0].shape[1:] == x.shape[1:]:
        kept.append(x[:samples].clone())
    quantizer.initialize(torch.cat(kept))  # type: ignore[operator]
    if distributed.is_available() and distributed.is_initialized():
        for value in [*quantizer.parameters(), *quantizer.buffers()]:
            if value.is_floating_point():
                distributed.all_reduce(value.data)
                value.data.div_(distributed.get_world_size())
