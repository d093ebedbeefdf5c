"""Batch norm and sign folded into thresholds on the integers of the layer before.

Between a packed layer P, whose results are integers k times a scale plus a bias, and a packed
layer Q with a binary input, the network computes element by element; so the sign that Q sees is
a function of k and the channel. It is evaluated for every k that P can return, with the torch
modules themselves, and where it changes at most once it is a threshold: sign(s k + b), s = +-1,
b a half-integer. Then the modules between disappear, and P's scale and bias with them.

A max pooling between P and Q may stay where it is: sign(max x) = max sign(x). Where it pools what
a batch norm made of k and s = -1, P returns -k in that channel. A flattening may stay as well: the
thresholds of a channel are then those of all its pixels.

A batch norm of floats before a packed convolution is a threshold as well, on floats.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ste_lightning.deploy.float_thresholds import float_threshold
from ste_lightning.deploy.inputs import BinaryInput
from ste_lightning.deploy.layers import PackedConv, PackedLayer
from ste_lightning.deploy.steps import Ref, Step, flattens, references
from ste_lightning.layers import RPReLU, RSign

__all__ = ["fold_thresholds"]

_ELEMENTWISE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.Hardtanh,
    nn.ReLU,
    nn.PReLU,
    nn.LeakyReLU,
    nn.Tanh,
    RPReLU,
    RSign,
)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
_MOST_VALUES = 1 << 25


def fold_thresholds(
    layers: dict[str, nn.Module], steps: list[Step], output: object
) -> tuple[dict[str, nn.Module], list[Step], list[str]]:
    """Fold every chain P -> pools -> element by element -> Q whose results only the next uses.

    Args:
        layers: name -> module, the quantized ones packed.
        steps: the network's steps.
        output: what the network returns.

    Returns:
        The layers and steps that remain, and the names of the folded modules.
    """
    uses = Counter(references(output))
    for step in steps:
        uses.update(references((step.args, step.kwargs)))
    calls = Counter(step.target for step in steps if step.op == "layer")
    made = {step.result: step for step in steps}
    folded: list[str] = []
    gone: dict[str, object] = {}
    for step in steps:
        consumer = layers.get(step.target) if step.op == "layer" else None
        if not isinstance(consumer, PackedLayer) or not isinstance(consumer.input, BinaryInput):
            continue
        if consumer.input.factor is not None or calls[step.target] > 1:
            continue
        chain = _chain(step, layers, made, uses, calls)
        if chain is None:
            norm = _norm_of_floats(step, layers, made, uses, calls)
            if norm is not None:
                quantizer = consumer.input
                factor, offset = float_threshold(layers[norm.target], quantizer)
                quantizer.factor, quantizer.offset = factor, offset
                gone[norm.result] = norm.args[0]
                folded.append(norm.target)
            continue
        modules = [layers[part.target] for part in chain.between]
        threshold = _threshold(chain.producer, modules, consumer)
        if threshold is None:
            continue
        _apply(chain, consumer, *threshold)
        for part in chain.between:
            gone[part.result] = part.args[0]
            folded.append(part.target)
    kept = [_rewired(step, gone) for step in steps if step.result not in gone]
    used = {step.target for step in kept if step.op == "layer"}
    return {name: layer for name, layer in layers.items() if name in used}, kept, folded


@dataclass(frozen=True)
class _Chain:
    """What is between two packed layers.

    Attributes:
        producer: the layer before.
        between: the steps to fold, in order.
        pool_after: whether what they make is pooled.
        flat: whether the result is flattened.
    """

    producer: PackedLayer
    between: list[Step]
    pool_after: bool
    flat: bool


def _chain(
    step: Step,
    layers: dict[str, nn.Module],
    made: dict[str, Step],
    uses: Counter[str],
    calls: Counter[str],
) -> _Chain | None:
    """Return what is before a step: pools before or after what is folded, then a flattening."""
    between: list[Step] = []
    pool_before = pool_after = flat = False
    at = step
    if len(at.args) != 1 or at.kwargs:
        return None
    while True:
        source = at.args[0]
        if not isinstance(source, Ref) or source.name not in made or uses[source.name] > 1:
            return None
        at = made[source.name]
        if flattens(at, layers):
            if flat or pool_after or between:
                return None
            flat = True
            continue
        if at.op != "layer" or calls[at.target] > 1 or len(at.args) != 1 or at.kwargs:
            return None
        module = layers[at.target]
        if isinstance(module, PackedLayer):
            break
        if type(module) in _POOLS and between:
            pool_before = True
        elif type(module) in _POOLS:
            pool_after = True
        elif type(module) in _ELEMENTWISE and not pool_before:
            between.append(at)
        else:
            return None
    consumer = layers[step.target]
    assert isinstance(consumer, PackedLayer)
    fits = (
        len(consumer.shape) == 2 < len(module.shape)
        if flat
        else (len(consumer.shape) == len(module.shape))
    )
    falls = module.scale is not None and bool((module.scale < 0).any())
    nothing = not between and module.scale is None and module.bias is None
    if nothing or not fits or (pool_before and (falls or pool_after)):
        return None
    return _Chain(module, between[::-1], pool_after, flat)


def _norm_of_floats(
    step: Step,
    layers: dict[str, nn.Module],
    made: dict[str, Step],
    uses: Counter[str],
    calls: Counter[str],
) -> Step | None:
    """Return the batch norm whose only use is as the input of a packed convolution."""
    source = step.args[0] if len(step.args) == 1 and not step.kwargs else None
    if not isinstance(source, Ref) or source.name not in made or uses[source.name] > 1:
        return None
    before = made[source.name]
    if before.op != "layer" or calls[before.target] > 1 or len(before.args) != 1:
        return None
    norm = layers[before.target]
    followed = isinstance(layers[step.target], PackedConv)
    batch_norm = type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if not followed or not batch_norm or norm.training or norm.running_mean is None:
        return None
    return before


def _integers(layer: PackedLayer) -> Tensor | None:
    """Return all integers that the layer's sums can be, or None where they are not integers."""
    if layer.input.codes is None or layer.input.kind == "token":
        return None
    pad = layer.pad_level() or 0.0
    if pad != int(pad):
        return None
    bound = int(layer.largest_sum())
    if bound > 1 << 22:
        return None
    return torch.arange(-bound, bound + 1, dtype=torch.float32)


@torch.no_grad()
def _threshold(
    producer: PackedLayer, between: list[nn.Module], consumer: PackedLayer
) -> tuple[Tensor, Tensor] | None:
    """Return s and b per channel, or None where the sign is not one threshold on integers."""
    integers = _integers(producer)
    channels = producer.shape[0]
    if integers is None or len(integers) * channels > _MOST_VALUES:
        return None
    scale = 1.0 if producer.scale is None else producer.scale
    bias = 0.0 if producer.bias is None else producer.bias
    x = integers[:, None] * (scale * producer.input_scale()) + bias
    x = x.expand(-1, channels).reshape(-1, channels, *[1] * (len(producer.shape) - 2))
    for module in between:
        x = module(x)
    assert isinstance(consumer.input, BinaryInput)
    bits = consumer.input.encode(x, 1).view(len(integers), channels).bool()
    changes = (bits[1:] != bits[:-1]).sum(0)
    if bool((changes > 1).any()):
        return None
    first, last = bits[0], bits[-1]
    # Where the bit changes, between integers i and i + 1, the threshold is i + 1/2.
    place = (bits != first).int().argmax(0)
    middle = integers[place] - 0.5
    sign = torch.where(last, 1.0, -1.0)
    constant = first == last
    factor = torch.where(constant, 0.0, sign)
    offset = torch.where(constant, torch.where(first, 1.0, -1.0), -sign * middle)
    return factor, offset


def _apply(chain: _Chain, consumer: PackedLayer, factor: Tensor, offset: Tensor) -> None:
    """Let the producer return its integers, and the consumer compare them."""
    falling = factor < 0
    if chain.pool_after and bool(falling.any()):
        chain.producer.emit_integers(torch.where(falling, -1.0, 1.0))
        factor = factor.abs()
    else:
        chain.producer.emit_integers()
    quantizer = consumer.input
    assert isinstance(quantizer, BinaryInput)
    if chain.flat:
        pixels = consumer.shape[1] // len(factor)
        factor, offset = (value.repeat_interleave(pixels) for value in (factor, offset))
    quantizer.factor, quantizer.offset = factor, offset


def _rewired(step: Step, gone: dict[str, object]) -> Step:
    def follow(value: object) -> object:
        while isinstance(value, Ref) and value.name in gone:
            value = gone[value.name]
        if isinstance(value, slice):
            return slice(*(follow(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, (list, tuple)):
            return type(value)(follow(item) for item in value)
        return value

    args = tuple(follow(value) for value in step.args)
    return replace(step, args=args, kwargs={k: follow(v) for k, v in step.kwargs.items()})
