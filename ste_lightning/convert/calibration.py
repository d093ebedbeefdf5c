"""Set the scales of input quantizers from several batches instead of the first one alone."""

from __future__ import annotations

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
    """

    def __init__(self, model: nn.Module, batches: int) -> None:
        self.model = model
        self.share = max(_LARGEST // max(batches, 1), 1)
        self.kept: dict[nn.Module, list[Tensor]] = {}
        self.handles: list[Any] = []

    def attach(self) -> None:
        """Start to collect."""
        for _, layer in named_quantized_layers(self.model):
            for key in ("input_quantizer", "score_quantizer"):
                quantizer = getattr(layer, key, None)
                if quantizer is not None and callable(getattr(quantizer, "initialize", None)):
                    self.handles.append(quantizer.register_forward_pre_hook(self._collect))

    def detach(self) -> None:
        """Stop, and forget the inputs."""
        for handle in self.handles:
            handle.remove()
        self.handles, self.kept = [], {}

    @torch.no_grad()
    def _collect(self, quantizer: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].detach()
        if not quantizer.training or x.numel() == 0 or is_backward():
            return  # activation checkpointing shows the same input again
        samples = max(self.share * len(x) // x.numel(), 1) if x.dim() else 1
        kept = self.kept.setdefault(quantizer, [])
        if not kept or kept[0].shape[1:] == x.shape[1:]:
            kept.append(x[:samples])
        quantizer.initialize(torch.cat(kept))  # type: ignore[operator]
        if distributed.is_available() and distributed.is_initialized():
            for value in [*quantizer.parameters(), *quantizer.buffers()]:
                if value.is_floating_point():
                    distributed.all_reduce(value.data)
                    value.data.div_(distributed.get_world_size())
