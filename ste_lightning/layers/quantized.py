"""What every quantized layer shares: two quantizers around an ordinary torch layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ste_lightning.quantizers import QuantizerSpec, build, describe

__all__ = ["QuantizedLayer"]


class QuantizedLayer(nn.Module):
    """Mixin: the latent weights stay the layer's ``weight``; ``forward`` uses their quantization.

    Attributes:
        weight_quantizer: the module applied to ``weight``, or ``None`` for float weights.
        input_quantizer: the module applied to the layer's input, or ``None``.
    """

    weight: Tensor
    channel_dim = 0

    def _attach(self, weight_quantizer: QuantizerSpec, input_quantizer: QuantizerSpec) -> None:
        """Build and register the two quantizers; called by the constructors."""
        if isinstance(weight_quantizer, Mapping) and self.channel_dim != 0:
            weight_quantizer = {"channel_dim": self.channel_dim, **weight_quantizer}
        self.weight_quantizer = build(weight_quantizer, operand="weights")
        self.input_quantizer = build(input_quantizer, operand="activations")

    def quantized_weight(self) -> Tensor:
        """Return the weights that ``forward`` multiplies with, differentiable in ``weight``."""
        if self.weight_quantizer is None:
            return self.weight
        weight: Tensor = self.weight_quantizer(self.weight)
        return weight

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return the quantized input of the layer."""
        if self.input_quantizer is None:
            return x
        quantized: Tensor = self.input_quantizer(x)
        return quantized

    def extra_repr(self) -> str:
        """Return the torch layer's line and the two quantizers."""
        quantizers = (
            f"weight={describe(self.weight_quantizer)}, input={describe(self.input_quantizer)}"
        )
        return f"{super().extra_repr()}, {quantizers}"
