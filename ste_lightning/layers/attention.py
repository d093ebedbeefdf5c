"""Quantized multi-head attention."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ste_lightning.errors import require
from ste_lightning.layers.linear import QuantOutProjection
from ste_lightning.layers.quantized import QuantizedLayer, quantizes
from ste_lightning.quantizers import QuantizerSpec, build, specification

__all__ = ["AttentionForward", "QuantMultiheadAttention"]


class AttentionForward(nn.Module):
    """The forward pass of multi-head attention around projections that a subclass computes.

    Attributes:
        num_heads, head_dim, batch_first, dropout: as in :class:`torch.nn.MultiheadAttention`.
        out_proj: the output projection.
    """

    num_heads: int
    head_dim: int
    batch_first: bool
    dropout: float
    out_proj: Any

    @abstractmethod
    def projections(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return Q, K and V, (batch, length, width) each."""

    @abstractmethod
    def quantized_scores(self, scores: Tensor) -> Tensor:
        """Return what the scores in [0, 1] become before they weigh the values."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values and, if asked, the (quantized) attention scores."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = map(self._heads, self.projections(query, key, value))
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
        scores = scores + self._mask(q, k, key_padding_mask, attn_mask, is_causal)
        scores = self.quantized_scores(scores.softmax(-1))
        attended = F.dropout(scores, self.dropout, self.training) @ v
        y = self.out_proj(attended.transpose(1, 2).flatten(2))
        weights = None
        if need_weights:
            weights = scores.mean(1) if average_attn_weights else scores
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return (y if self.batch_first else y.transpose(0, 1)), weights

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, width) -> (batch, heads, length, head width)."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(
        self,
        q: Tensor,
        k: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> Tensor:
        """Return the additive mask, 0-d where nothing is masked."""
        total = q.new_zeros(())
        if attn_mask is None and is_causal:
            length = (q.shape[-2], k.shape[-2])
            attn_mask = torch.ones(length, dtype=torch.bool, device=q.device).triu(1)
        if attn_mask is not None:
            mask = _additive(attn_mask, q)
            if mask.dim() == 3:
                mask = mask.reshape(-1, self.num_heads, *mask.shape[1:])
            total = total + mask
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, q)
            total = total + padding.reshape(-1, 1, 1, k.shape[-2])
        return total


@quantizes(nn.MultiheadAttention)
class QuantMultiheadAttention(AttentionForward, QuantizedLayer, nn.MultiheadAttention):
    """Attention whose QKV projections, scores and output projection are quantized.

    Q, K, V = q_x(input) q_w(W)^T + b; A = q_s(softmax(Q K^T / sqrt(d))); y = q_x(A V) q_w(W_o)^T.

    Args:
        args, kwargs: as in :class:`torch.nn.MultiheadAttention`; query, key and value must have
            the same width (no ``kdim``/``vdim``), ``add_bias_kv`` and ``add_zero_attn`` off.
        weight_quantizer: for the QKV and output weights; every projection gets its own copy.
        input_quantizer: for the inputs of the QKV projections and of the output projection.
        score_quantizer: for the attention scores in [0, 1]; ``None`` leaves them float.

    Shape:
        as :class:`torch.nn.MultiheadAttention`; batched or unbatched, ``batch_first`` or not.

    Raises:
        ConfigurationError: for a quantizer that cannot be built and for the options above.
    """

    latent_key = "in_proj_weight"

    def __init__(
        self,
        *args: Any,
        weight_quantizer: QuantizerSpec = "sign",
        input_quantizer: QuantizerSpec = "sign",
        score_quantizer: QuantizerSpec = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        built = self._build(weight_quantizer, input_quantizer)
        self._attach(*built, score_quantizer=score_quantizer)

    def _attach(
        self,
        weight_quantizer: nn.Module | None,
        input_quantizer: nn.Module | None,
        score_quantizer: QuantizerSpec = None,
    ) -> None:
        require(
            self._qkv_same_embed_dim and self.bias_k is None and not self.add_zero_attn,
            "kdim/vdim/add_bias_kv/add_zero_attn",
            (self.kdim, self.vdim, self.bias_k is not None, self.add_zero_attn),
            "quantized attention needs query, key and value of one width and no extra rows",
        )
        scores = build(score_quantizer, "activations")
        super()._attach(weight_quantizer, input_quantizer)
        self.score_quantizer = None if scores is None else scores.to(self.latent_weight().device)
        self.freeze_with_weights()
        if type(self.out_proj) is NonDynamicallyQuantizableLinear:
            QuantOutProjection.from_float(
                self.out_proj,
                weight_quantizer=copy.deepcopy(weight_quantizer),
                input_quantizer=copy.deepcopy(input_quantizer),
            )

    def specification(self) -> dict[str, Any]:
        """Return the specifications of the quantizers of weights, inputs and scores."""
        return {**super().specification(), "score": specification(self.score_quantizer)}

    def to_float(self) -> nn.Module:
        """Turn the layer and its output projection back into torch classes, in place."""
        assert isinstance(self.out_proj, QuantOutProjection)
        self.out_proj.to_float()
        del self.score_quantizer
        return super().to_float()

    def projections(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return the products of the quantized inputs with the quantized weights."""
        parts = self.forward_weight().chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(
            F.linear(self.quantized_input(x), w, b)
            for x, w, b in zip((query, key, value), parts, biases, strict=True)
        )

    def quantized_scores(self, scores: Tensor) -> Tensor:
        """Return the scores on their quantizer's grid."""
        if self.score_quantizer is None or not self.input_quantization:
            return scores
        self.rest_while_frozen(self.score_quantizer)
        quantized: Tensor = self.score_quantizer(scores)
        return quantized


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """Return a boolean mask (True is hidden) as 0 and -inf; an additive one as it is."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    zeros = torch.zeros_like(mask, dtype=like.dtype)
    return zeros.masked_fill(mask, float("-inf"))
