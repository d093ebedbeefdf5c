"""What every quantized layer shares: two quantizers around an ordinary torch layer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.functional.estimator.eager import autocast_dtype, is_eager
from ste_lightning.functional.products.binary import one_bit_product, path_of
from ste_lightning.functional.products.integer_forward import levels_pay
from ste_lightning.functional.products.operators import compiled_one_bit_product, fits_an_operator
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.layers.compiled_operands import compiled_operand_product
from ste_lightning.layers.identity import refuse_another, start_from_float, write_identity
from ste_lightning.layers.one_bit import Settled, compiles_one_bit, one_bit_specification
from ste_lightning.layers.operands import operand_product
from ste_lightning.layers.quantized_once import QuantizedOnce, contents, may_wait
from ste_lightning.quantizers import (
    Quantizer,
    QuantizerSpec,
    Sign,
    Uniform,
    build,
    describe,
    mean_magnitude,
    specification,
)

__all__ = ["QUANTIZED", "QuantizedLayer", "quantizes"]

_logger = logging.getLogger("ste_lightning")
_OPERANDS = ("weight", "input", "score")

QUANTIZED: dict[type[nn.Module], type[QuantizedLayer]] = {}


class QuantizedLayer(nn.Module):
    """Mixin: the latent weights stay the layer's ``weight``; ``forward`` uses their quantization.

    Attributes:
        weight_quantizer: the module applied to ``weight``, or ``None`` for float weights.
        input_quantizer: the module applied to the layer's input, or ``None``.
        weight_quantization: ``False`` lets ``forward`` use ``weight`` as it is.
        input_quantization: likewise for the input; both switches add no key.
        converted: what a conversion by a policy decided beside the quantizers; ``None`` for a
            layer that the model made itself.
    """

    weight: Tensor
    weight_quantization: bool = True
    input_quantization: bool = True
    converted: Mapping[str, Any] | None = None
    latent_key: ClassVar[str] = "weight"
    channel_dim: ClassVar[int] = 0
    float_class: ClassVar[type[nn.Module]] = nn.Module

    @classmethod
    def from_float(
        cls,
        layer: nn.Module,
        *,
        weight_quantizer: QuantizerSpec = None,
        input_quantizer: QuantizerSpec = None,
        **options: Any,
    ) -> Self:
        """Turn a float layer into this class, in place, and return it.

        The object, its parameters, hooks, device and training flag stay what they are; only its
        class changes and two quantizers join it. :meth:`to_float` undoes it.

        Args:
            layer: a layer whose class is exactly the torch class that this one quantizes.
            weight_quantizer: a quantizer specification for its weights, or ``None``.
            input_quantizer: likewise for its input.
            options: the class's further keywords, such as ``pad_value``.

        Raises:
            ConfigurationError: for another class of layer, or a quantizer that cannot be built;
                the layer is then untouched.
        """
        require(
            type(layer) in (cls.float_class, cls),
            "layer",
            type(layer).__name__,
            f"{cls.__name__}.from_float takes a {cls.float_class.__name__}",
        )
        built = cls._build(weight_quantizer, input_quantizer)
        before = type(layer)
        layer.__class__ = cls
        assert isinstance(layer, cls)
        try:
            layer._attach(*built, **options)
        except ConfigurationError:
            _become(layer, before)
            raise
        return layer

    def to_float(self) -> nn.Module:
        """Turn the layer back into its torch class, in place, latent weights and all."""
        del self.weight_quantizer, self.input_quantizer
        for key in ("_settled", "_quantized_once", "converted"):
            self.__dict__.pop(key, None)
        return _become(self, self.float_class)

    @classmethod
    def _build(
        cls, weight_quantizer: QuantizerSpec, input_quantizer: QuantizerSpec
    ) -> tuple[nn.Module | None, nn.Module | None]:
        """Build both quantizers, so that an error leaves nothing half-done."""
        weights = build(weight_quantizer, "weights", cls.channel_dim)
        return weights, build(input_quantizer, "activations")

    def _attach(
        self, weight_quantizer: nn.Module | None, input_quantizer: nn.Module | None
    ) -> None:
        """Register both quantizers; a weight quantizer with learned scales sees its weights."""
        latent = self.latent_weight()
        for quantizer in (weight_quantizer, input_quantizer):
            if quantizer is not None:
                quantizer.to(latent.device)
        self.weight_quantizer = weight_quantizer
        self.input_quantizer = input_quantizer
        self._start_weights()
        self.freeze_with_weights()

    def freeze_with_weights(self) -> None:
        """Freeze the quantizers if the latent weights are frozen: the layer stays as it is."""
        if not self.is_frozen():
            return
        for quantizer in self._quantizers():
            quantizer.requires_grad_(False)

    def is_frozen(self) -> bool:
        """Return whether the latent weights are not trained."""
        own = self._parameters.get(self.latent_key)
        if own is not None:
            return not own.requires_grad
        parts = {id(p) for quantizer in self._quantizers() for p in quantizer.parameters()}
        return not any(p.requires_grad for p in self.parameters() if id(p) not in parts)

    def _quantizers(self) -> list[nn.Module]:
        found = (self._modules.get(f"{operand}_quantizer") for operand in _OPERANDS)
        return [quantizer for quantizer in found if quantizer is not None]

    def rest_while_frozen(self, quantizer: nn.Module | None) -> None:
        """Let a running range stay where it is while the layer's weights are frozen."""
        if isinstance(quantizer, Uniform):
            frozen = self.is_frozen()
            if quantizer.resting is not frozen:  # compiled code sees a change, not each call
                quantizer.resting = frozen

    @torch.no_grad()
    def _start_weights(self) -> None:
        """Let the weight quantizer's learned scales start from the weights."""
        initialize = getattr(self.weight_quantizer, "initialize", None)
        if initialize is None:
            return
        latent = self.latent_weight().detach()
        initialize(latent)
        if latent.is_meta and isinstance(self.weight_quantizer, Quantizer):
            self.weight_quantizer.reset_parameters()  # shapes alone: there are no values

    def reset_parameters(self) -> None:
        """Draw new weights as the torch layer does; learned scales start from them."""
        base: Any = super()
        draw = getattr(base, "reset_parameters", None) or base._reset_parameters
        draw()
        if isinstance(self.__dict__.get("_modules", {}).get("weight_quantizer"), nn.Module):
            self._start_weights()

    def specification(self) -> dict[str, Any]:
        """Return what the layer is: the full specifications of its quantizers, as plain Python."""
        spec = {
            "weight": specification(self.weight_quantizer),
            "input": specification(self.input_quantizer),
        }
        return {**spec, **(self.converted or {})}

    def check(self) -> None:
        """Raise unless the layer can be deployed.

        Raises:
            ConfigurationError: for weights that are NaN or infinite, a quantizer that has seen no
                data, a learned step that is not positive.
        """
        if not bool(self.latent_weight().isfinite().all()):
            raise ConfigurationError("its weights are NaN or infinite")
        for operand in _OPERANDS:
            quantizer = self._modules.get(f"{operand}_quantizer")
            if isinstance(quantizer, Quantizer):
                quantizer.check(operand)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        write_identity(self, destination, prefix)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any
    ) -> None:
        refuse_another(self, local_metadata, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)
        start_from_float(self, state_dict, prefix)

    def latent_weight(self) -> Tensor:
        """Return the real weights that training moves, under the float layer's own key."""
        latent = getattr(self, self.latent_key)
        assert isinstance(latent, Tensor)
        return latent

    def quantized_weight(self) -> Tensor:
        """Return the weights that ``forward`` multiplies with, differentiable in ``weight``."""
        if self.weight_quantizer is None or not self.weight_quantization:
            return self.latent_weight()
        weight: Tensor = self.weight_quantizer(self.latent_weight())
        return weight

    def forward_weight(self) -> Tensor:
        """Return :meth:`quantized_weight`, in evaluation made only once; not to be written to."""
        quantizer, weight = self.weight_quantizer, self.latent_weight()
        if quantizer is None or not self.weight_quantization or not may_wait(quantizer, weight):
            return self.quantized_weight()
        kept = self.__dict__.setdefault("_quantized_once", QuantizedOnce())
        once: Tensor = kept.get(contents(quantizer, weight), self.quantized_weight)
        return once

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return the quantized input of the layer."""
        if self.input_quantizer is None or not self.input_quantization:
            return x
        self.rest_while_frozen(self.input_quantizer)
        quantized: Tensor = self.input_quantizer(x)
        return quantized

    def lean_product(self, x: Tensor, geometry: ConvolutionGeometry | None = None) -> Tensor | None:
        """Return the layer's output by a product that keeps less than the plain composition.

        For sign weights with sign or step inputs that is one bit per activation, or the input where
        its backward rule must remember it; for learned steps (``lsq``) the float operands alone,
        for uniform grids codes and one bit. ``None`` where the plain composition has to do it: for
        other quantizers, quantizers with hooks, and inside export, vmap and autocast.
        """
        if not (self.weight_quantization and self.input_quantization):
            return None
        compiled = not is_eager(x)
        if compiled and not (torch.compiler.is_compiling() and compiles_one_bit(x)):
            return None
        narrow = None if compiled else autocast_dtype(x)
        # nn.Module's own lookup of these costs as much as a small tensor operation
        modules, parameters = self._modules, self._parameters
        weights, inputs = modules.get("weight_quantizer"), modules.get("input_quantizer")
        self.rest_while_frozen(inputs)
        weight: Tensor | None = parameters.get("weight")
        if weight is None:  # parametrized or pruned
            weight = self.weight
        if weight.dtype is not x.dtype and not (narrow and weight.dtype is torch.float32):
            return None
        if not (torch.is_grad_enabled() or self.training) and not levels_pay(x, weight, geometry):
            return None  # weights that wait quantized are faster
        bias: Tensor | None = parameters.get("bias")
        if bias is None:
            bias = self.bias  # type: ignore[assignment]
        last: Settled | None = None if compiled or geometry else self.__dict__.get("_settled")
        if last is not None and last.holds(weights, inputs, x.dtype):
            return self._one_bit(x, weight, None, bias, last.spec, narrow)
        spec = one_bit_specification(weights, inputs, geometry)
        if spec is None:
            if compiled:
                return compiled_operand_product(x, weight, bias, weights, inputs, geometry)
            return operand_product(self, x, weight, bias, geometry, narrow or x.dtype)
        assert isinstance(weights, Sign)
        scale = None
        if weights.scale != "none":
            scale = mean_magnitude(weight.detach(), weights.scale, weights.channel_dim)
        elif not (compiled or geometry):
            self.__dict__["_settled"] = Settled(weights, inputs, x.dtype, spec)
        if compiled:
            fits = fits_an_operator(x, weight, spec)
            return compiled_one_bit_product(x, weight, scale, bias, spec) if fits else None
        return self._one_bit(x, weight, scale, bias, spec, narrow)

    def _one_bit(
        self,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        spec: OneBitProduct,
        narrow: torch.dtype | None,
    ) -> Tensor:
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%r: %s", self, path_of(x, weight, scale, spec))
        return one_bit_product(x, weight, scale, bias, spec, narrow)

    def extra_repr(self) -> str:
        """Return the torch layer's line and the two quantizers."""
        quantizers = (
            f"weight={describe(self.weight_quantizer)}, input={describe(self.input_quantizer)}"
        )
        return f"{super().extra_repr()}, {quantizers}"


def _become(layer: nn.Module, cls: type[nn.Module]) -> nn.Module:
    layer.__class__ = cls
    return layer


def quantizes(float_class: type[nn.Module]) -> Any:
    """Class decorator: this quantized layer replaces ``float_class`` on conversion."""

    def add(cls: type[QuantizedLayer]) -> type[QuantizedLayer]:
        cls.float_class = float_class
        QUANTIZED[float_class] = cls
        return cls

    return add
