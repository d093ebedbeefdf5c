"""What quantizers with learned scales share: the first values come from data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from ste_lightning.functional import Surrogate
from ste_lightning.quantizers.quantizer import Operand, Quantizer

__all__ = ["Calibrated"]


class Calibrated(Quantizer):
    """A quantizer whose learned parameters start from data.

    Weights: the layer calls :meth:`initialize` when it is made. Activations: the first batch in
    training mode does, averaged over processes; :attr:`initialized` remembers it in
    checkpoints.
    """

    initialized: Tensor

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        operand: Operand = "activations",
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.operand = operand
        self.register_buffer("initialized", torch.tensor(0))  # averaging cannot take a bool
        self._ready = False  # what compiled code branches on, without reading the buffer

    def _set_from(self, x: Tensor) -> None:
        """Set the learned parameters from the float values ``x``."""
        raise TypeError(f"{type(self).__name__} must define _set_from(x)")

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set the learned parameters from ``x``, weights or a batch of activations."""
        self._set_from(x.detach())
        self.initialized.fill_(True)
        self._ready = True

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values; the first call in training mode sets the parameters."""
        if self.training and not self._ready:
            self.initialize(x)
            if distributed.is_available() and distributed.is_initialized():
                for parameter in self.parameters():
                    distributed.all_reduce(parameter.data)
                    parameter.data.div_(distributed.get_world_size())
        return super().forward(x)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.initialized.is_meta:
            self._ready = bool(self.initialized)
