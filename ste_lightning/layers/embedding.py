"""The quantized embedding table."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.layers.quantized import QuantizedLayer, quantizes
from ste_lightning.quantizers import QuantizerSpec

__all__ = ["QuantEmbedding"]


@quantizes(nn.Embedding)
class QuantEmbedding(QuantizedLayer, nn.Embedding):
    """``nn.Embedding`` with a quantized table: y = q_w(W)[index].

    Args:
        args, kwargs: as in :class:`torch.nn.Embedding`.
        weight_quantizer: a name, a mapping, a module, or ``None`` for float weights.

    Raises:
        ConfigurationError: for an input quantizer (indices have no values to quantize) and for
            ``sparse=True`` (the coarse gradient of the latent table is dense).
    """

    def __init__(self, *args: Any, weight_quantizer: QuantizerSpec = "sign", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._attach(*self._build(weight_quantizer, None))

    def _attach(
        self, weight_quantizer: nn.Module | None, input_quantizer: nn.Module | None
    ) -> None:
        require(
            input_quantizer is None,
            "input_quantizer",
            input_quantizer,
            "an embedding's input are indices; leave it None",
        )
        require(not self.sparse, "sparse", self.sparse, "latent weights have a dense gradient")
        super()._attach(weight_quantizer, None)

    def forward(self, input: Tensor) -> Tensor:
        """Return the quantized rows at the indices ``input``."""
        # torch writes to a table that it has to renormalize
        table = self.forward_weight() if self.max_norm is None else self.quantized_weight()
        return F.embedding(
            input,
            table,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
