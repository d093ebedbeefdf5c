"""Quantizers that draw in training and are deterministic in evaluation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer
from ste_lightning.quantizers.uniform import Uniform

__all__ = ["StochasticSign", "StochasticUniform"]


def _draw_sign(x: Tensor) -> Tensor:
    """Return +1 with probability clip((x + 1) / 2, 0, 1), else -1."""
    wide = widen(x)
    return (torch.rand_like(wide) < (wide + 1) / 2).to(x.dtype) * 2 - 1


@register_quantizer("stochastic_sign")
class StochasticSign(Quantizer):
    """q(x) = +1 with probability clip((x + 1) / 2, 0, 1), else -1; sign(x) in evaluation.

    E q(x) = clip(x, -1, 1), whose derivative is the default rule's.

    Args:
        rule: the backward rule; default ``"clipped"``.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for an unknown rule or parameter.

    Source: Courbariaux et al. 2015, arXiv 1511.00363 (BinaryConnect), section 2.3.
    """

    bits = 1.0

    def quantize(self, x: Tensor) -> Tensor:
        """Return -1 and +1 in the shape and dtype of ``x``."""
        return SF.straight_through(x, _draw_sign if self.training else SF.hard_sign, self.rule)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1 and +1 as in evaluation, and the scale 1."""
        return SF.hard_sign(x).int(), x.new_ones(())


@register_quantizer("stochastic_uniform")
class StochasticUniform(Uniform):
    """A uniform grid with stochastic rounding in training: E q(x) = x between the levels.

    x / s + z is rounded up with probability equal to its fractional part; to the nearest in
    evaluation. Arguments, gradient and errors as in :class:`Uniform`, less the binary case.

    Source: Gupta et al. 2015, arXiv 1502.02551, section 3.1.
    """

    has_binary: ClassVar[bool] = False

    def _noise(self, x: Tensor) -> Tensor | None:
        return torch.rand_like(widen(x)) if self.training else None
