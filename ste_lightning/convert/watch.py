"""Find quantizers that are dead: all they give out is one level, so nothing can be learned."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ste_lightning.convert.structure import clean_name
from ste_lightning.layers import QuantizedLayer
from ste_lightning.quantizers import describe

__all__ = ["Finding", "QuantizerWatch", "dead_weights", "named_quantized_layers"]

_FEW_LEVELS = 1.6  # bits up to which a missing half of the grid cannot be made up for
_ENOUGH = 32  # values below which a constant may be chance


@dataclasses.dataclass(frozen=True)
class Finding:
    """One quantizer that does not do its work.

    Attributes:
        layer: the layer's full name.
        severe: whether nothing can be learned through it.
        message: what was seen and what to do.
    """

    layer: str
    severe: bool
    message: str


def named_quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantizedLayer]]:
    """Yield every quantized layer with its name, those inside attention too."""
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLayer):
            yield clean_name(name), module


class QuantizerWatch:
    """Watches the inputs of all quantized layers while it is attached.

    Per layer the smallest and largest value before and after the quantizer are kept, on the
    layer's device, so that watching does not wait for the device; :meth:`findings` judges them.

    Args:
        model: a module with quantized layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.handles: list[Any] = []

    def attach(self) -> None:
        """Start to watch."""
        for name, layer in named_quantized_layers(self.model):
            if layer.input_quantizer is not None:
                hook = _Observer(self, name)
                self.handles.append(layer.input_quantizer.register_forward_hook(hook))

    def detach(self) -> None:
        """Stop watching; what was seen is kept."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def note(self, name: str, x: Tensor, y: Tensor) -> None:
        """Take one call of a quantizer into account."""
        if x.numel() == 0:
            return
        # all as maxima, so that one reduction over processes does
        now = torch.stack([-x.min(), x.max(), -y.min(), y.max()]).float()
        before = self.seen.get(name)
        self.seen[name] = now if before is None else torch.maximum(before, now)
        self.counts[name] = self.counts.get(name, 0) + x.numel()

    def findings(self) -> list[Finding]:
        """Return what is wrong with the inputs seen so far, over all processes together."""
        names = sorted(self.seen)
        if not names:
            return []
        table = torch.stack([self.seen[name] for name in names])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(table, op=distributed.ReduceOp.MAX)
        layers = dict(named_quantized_layers(self.model))
        found = []
        for name, row in zip(names, table.tolist(), strict=True):
            quantizer = layers[name].input_quantizer
            if quantizer is not None and self.counts[name] >= _ENOUGH:
                found += _judge(name, quantizer, -row[0], row[1], -row[2], row[3])
        return found


class _Observer:
    """A forward hook that can be pickled and copied with its module."""

    def __init__(self, watch: QuantizerWatch, name: str) -> None:
        self.watch, self.name = watch, name

    @torch.no_grad()
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and isinstance(args[0], Tensor):
            self.watch.note(self.name, args[0].detach(), output.detach())


def _judge(
    name: str, quantizer: nn.Module, low: float, high: float, q_low: float, q_high: float
) -> list[Finding]:
    """Judge the extremes of a layer's input before and after quantization."""
    kind = describe(quantizer)
    bits = float(getattr(quantizer, "bits", 32))
    severe = q_low == q_high or bits <= _FEW_LEVELS
    if q_low == q_high:
        what = f"is constant: {kind} gave {q_low:g} for every value"
    elif low >= 0 and _reaches_below_zero(quantizer, high):
        what = f"is one-sided: {kind} with {bits:g} bits never uses its negative levels"
    else:
        return []
    span = f"as its input lies in [{low:.3g}, {high:.3g}]"
    message = f"the input of layer {name!r} {what}, {span}. {_remedy(low, high)}"
    return [Finding(name, severe, message)]


def _remedy(low: float, high: float) -> str:
    if low >= 0:
        return (
            "Probably a ReLU stands before it. Remove it or make it a module, so that the policy "
            "can replace it; or put batch norm before the layer; or use an input quantizer for "
            "nonnegative values: 'step' (with batch norm or a threshold), signed=False or "
            "symmetric=False."
        )
    if high <= 0:
        return "Put batch norm or a threshold (RSign) before the layer."
    return "Put batch norm before the layer, or give the quantizer a smaller scale."


def _reaches_below_zero(quantizer: nn.Module, high: float) -> bool:
    """Return whether the grid has levels below zero, which nonnegative inputs never use."""
    parameter = next(quantizer.parameters(), None)
    device = None if parameter is None else parameter.device
    try:
        with torch.no_grad():
            probe = torch.full((1, 4), -max(high, 1.0), device=device)
            return bool((copy.deepcopy(quantizer).eval()(probe) < 0).any())
    except RuntimeError:  # a quantizer for inputs of another shape
        return False


@torch.no_grad()
def dead_weights(model: nn.Module) -> list[Finding]:
    """Return the layers whose quantized weights are all on one level."""
    found = []
    for name, layer in named_quantized_layers(model):
        if layer.weight_quantizer is None:
            continue
        weight = layer.quantized_weight()
        levels = (
            weight.sign() if float(getattr(layer.weight_quantizer, "bits", 32)) <= 1 else weight
        )
        if weight.numel() > 1 and bool((levels == levels.flatten()[0]).all()):
            kind = describe(layer.weight_quantizer)
            found.append(
                Finding(
                    name,
                    True,
                    f"the weights of layer {name!r} are all on one level of {kind}. Lower the "
                    "learning rate or the weight decay, or clip the latent weights.",
                )
            )
    return found
