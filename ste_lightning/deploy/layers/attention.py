"""Packed multi-head attention."""

from __future__ import annotations

from torch import Tensor

from ste_lightning.deploy.layers.input_quantizers import FloatInput, Input
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.deploy.layers.operator import EvalOnly
from ste_lightning.errors import require
from ste_lightning.layers.attention import AttentionForward

__all__ = ["PackedAttention"]


class PackedAttention(EvalOnly, AttentionForward):
    """Multi-head attention with four packed projections; calls and results as the trained one's.

    Args:
        num_heads: number of heads.
        batch_first: whether the batch is the first axis.
        projections: those of query, key, value and output.
        scores: how the attention scores are quantized.
    """

    def __init__(
        self,
        num_heads: int,
        batch_first: bool,
        projections: tuple[PackedLinear, PackedLinear, PackedLinear, PackedLinear],
        scores: Input,
    ) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = projections
        self.scores = scores
        width = self.q_proj.shape[0]
        require(
            num_heads > 0
            and width % num_heads == 0
            and all(part.shape == (width, width) for part in projections),
            "num_heads",
            num_heads,
            f"it must divide the width {width} of all four projections",
        )
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.batch_first = batch_first
        self.dropout = 0.0
        self.in_proj_bias = None  # which torch's transformer layers ask for, then call forward
        self.eval()

    def projections(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return the packed products."""
        return self.q_proj(query), self.k_proj(key), self.v_proj(value)

    def quantized_scores(self, scores: Tensor) -> Tensor:
        """Return the scores on their grid."""
        return scores if isinstance(self.scores, FloatInput) else self.scores(scores)

    def extra_repr(self) -> str:
        """Return the number of heads."""
        return f"heads={self.num_heads}, batch_first={self.batch_first}"
