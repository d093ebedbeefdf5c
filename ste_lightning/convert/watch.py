"""Find quantizers that are dead: all they give out is one level, so nothing can be learned."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ste_lightning.convert.structure import clean_name, tensors
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.layers import QuantizedLayer
from ste_lightning.quantizers import Steps, bits_of, describe

__all__ = [
    "Finding",
    "QuantizerWatch",
    "collapsed_steps",
    "dead_weights",
    "named_quantized_layers",
]

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

    Per layer the smallest and the largest input are kept, on the layer's device, so that
    watching does not wait for the device and does not touch the quantizers; :meth:`findings`
    judges what the quantizers make of them.

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
                self.handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def detach(self) -> None:
        """Stop watching; what was seen is kept."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def note(self, name: str, x: Tensor) -> None:
        """Take one input of a layer into account."""
        if x.numel() == 0 or not x.is_floating_point():
            return
        now = torch.stack([-x.min(), x.max()]).float()  # both as maxima: one reduction
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
        for name, (minus_low, high) in zip(names, table.tolist(), strict=True):
            quantizer = layers[name].input_quantizer
            if quantizer is not None and self.counts[name] >= _ENOUGH:
                found += _judge(name, quantizer, -minus_low, high)
        return found


class _Observer:
    """A forward pre-hook that can be pickled and copied with its layer."""

    def __init__(self, watch: QuantizerWatch, name: str) -> None:
        self.watch, self.name = watch, name

    @torch.no_grad()
    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = list(tensors((args, kwargs)))
        count = 3 if isinstance(layer, nn.MultiheadAttention) else 1  # query, key, value
        for x in inputs[:count]:
            self.watch.note(self.name, x.detach())


def _judge(name: str, quantizer: nn.Module, low: float, high: float) -> list[Finding]:
    """Judge a quantizer by what it makes of the extremes of its inputs.

    Inputs that are not numbers say nothing of it; a ``FiniteCheck`` says where they come from.
    """
    if math.isnan(low) or math.isnan(high):
        return []
    ends = _quantized(quantizer, low, high)
    if ends is None:
        return []
    kind = describe(quantizer)
    bits = bits_of(quantizer)
    below = _quantized(quantizer, -max(high, 1.0), high)
    severe = ends[0] == ends[1] or bits <= _FEW_LEVELS
    if ends[0] == ends[1]:
        what = f"is constant: {kind} gave {ends[0]:g} for every value"
    elif low >= 0 and below is not None and below[0] < 0:
        what = f"is one-sided: {kind} with {bits:.3g} bits never uses its negative levels"
    else:
        return []
    span = f"as its input lies in [{low:.3g}, {high:.3g}]"
    message = f"the input of layer {name!r} {what}, {span}. {_remedy(low, high)}"
    return [Finding(name, severe, message)]


@torch.no_grad()
def _quantized(quantizer: nn.Module, low: float, high: float) -> tuple[float, float] | None:
    """Return what a quantizer makes of two values, ``None`` if it needs another shape."""
    state = next(iter([*quantizer.parameters(), *quantizer.buffers()]), None)
    device = None if state is None else state.device
    try:
        values = copy.deepcopy(quantizer).eval()(torch.tensor([[low, high]], device=device))
    except RuntimeError:
        return None
    return float(values[0, 0]) + 0.0, float(values[0, 1]) + 0.0  # no -0 in messages


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


@torch.no_grad()
def collapsed_steps(model: nn.Module) -> list[Finding]:
    """Return the layers with a learned step that is not above zero, which learns nothing."""
    found = []
    for name, layer in named_quantized_layers(model):
        for operand in ("weight", "input", "score"):
            quantizer = layer._modules.get(f"{operand}_quantizer")
            step = quantizer.smallest_step() if isinstance(quantizer, Steps) else None
            if step is not None and float(step) <= SMALLEST:
                found.append(
                    Finding(
                        name,
                        True,
                        f"the learned step (scale) of the {operand} quantizer of layer {name!r} "
                        f"has collapsed to {float(step):.3g}: it gives out zeros and learns "
                        "nothing. Lower its learning rate or leave it out of the weight decay.",
                    )
                )
    return found


@torch.no_grad()
def dead_weights(model: nn.Module) -> list[Finding]:
    """Return the layers whose quantized weights are all on one level, the latent ones not zero."""
    found = []
    for name, layer in named_quantized_layers(model):
        if layer.weight_quantizer is None:
            continue
        weight = layer.quantized_weight()
        levels = weight.sign() if bits_of(layer.weight_quantizer) <= 1 else weight
        if weight.numel() > 1 and bool((levels == levels.flatten()[0]).all()):
            if not bool(layer.latent_weight().any()):
                continue  # set to zero on purpose, as at the end of a residual branch
            kind = describe(layer.weight_quantizer)
            zero = not bool(weight.any())
            remedy = (
                "They lie in its dead zone: make that smaller, or use map: twn, whose dead zone "
                "follows the weights."
                if zero
                else "Lower the learning rate or the weight decay, or clip the latent weights."
            )
            message = f"the weights of layer {name!r} are all on one level of {kind}. {remedy}"
            found.append(Finding(name, zero, message))
    return found
