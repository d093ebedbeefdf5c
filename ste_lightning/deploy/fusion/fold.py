"""What is called between packed layers, folded into thresholds of the layers' quantizers.

Between a packed layer P, whose results are integers k times a scale plus a bias, and packed
layers Q with quantized inputs, a network computes element by element; so the codes that Q makes
are functions of k and the channel (:mod:`.integer_thresholds`). Where all that use P's results are
such layers, the modules between disappear, and P's scale and bias with them: P returns k, or -k
in some channels, and Q compares s k, s = +-1, with half-integers.

A max pooling between P and Q may stay where it is: a code that rises with x is that of max x.
Where it pools what a batch norm made of k and s = -1, P returns -k in that channel. A flattening
may stay as well: the thresholds of a channel are then those of all its pixels.

Batch norms of floats before packed layers are thresholds as well, on floats
(:mod:`.float_thresholds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.fusion.float_fold import fold_floats
from ste_lightning.deploy.fusion.integer_thresholds import integer_thresholds
from ste_lightning.deploy.fusion.paths import Path, is_open, paths_from
from ste_lightning.deploy.fusion.set_thresholds import set_thresholds, uniform
from ste_lightning.deploy.graph.simplify import rewired
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["fold_thresholds"]


def fold_thresholds(
    layers: dict[str, nn.Module],
    steps: list[Step],
    output: object,
    constants: Mapping[str, Tensor],
    values: Mapping[str, Any],
    floats: bool = True,
) -> tuple[dict[str, nn.Module], list[Step]]:
    """Fold what is called between packed layers, and batch norms before them.

    Args:
        layers: name -> module; those that change are replaced by twins.
        steps: the network's steps.
        output: what the network returns.
        constants: by the names that steps use.
        values: result -> a tensor of its shape and type.
        floats: whether batch norms of floats are folded, too.

    Returns:
        The layers, and the steps that remain.
    """
    layers = {
        name: layer.twin() if isinstance(layer, PackedLayer) else layer
        for name, layer in layers.items()
    }
    flow = Flow(layers, steps, output, constants, values)
    gone: dict[str, object] = {}
    for step in steps:
        layer = flow.layer(step)
        if layer is not None and flow.calls[step.target] == 1:
            paths = paths_from(step, flow, is_open)
            if any(flow.calls[path.consumer.target] > 1 for path in paths):
                continue
            if paths and _fold(layer, paths, flow):
                gone |= {part.result: part.args[0] for path in paths for part in path.between}
    kept = [rewired(step, gone) for step in steps if step.result not in gone]
    if not floats:
        return layers, kept
    flow = Flow(layers, kept, output, constants, values)
    lost = fold_floats(flow, kept)
    return layers, [rewired(step, lost) for step in kept if step.result not in lost]


def _fold(producer: PackedLayer, paths: Sequence[Path], flow: Flow) -> bool:
    """Let a layer return integers, and those that use them compare them, if that can be."""
    nothing = producer.result_scale() is None and producer.bias is None
    if nothing and not any(path.between for path in paths):
        return False
    found: list[tuple[PackedLayer, Tensor, Tensor, int]] = []
    signs = torch.zeros(producer.shape[0])
    for path in paths:
        consumer = flow.layer(path.consumer)
        assert consumer is not None
        repeats = _repeats(producer, consumer, path.flat)
        modules = [flow.part(step) for step in path.between]
        steps = integer_thresholds(producer, modules, uniform(consumer.input))
        if repeats == 0 or steps is None:
            return False
        found.append((consumer, *steps, repeats))
        wanted = _wanted(producer, path, steps[0])
        if bool((signs * wanted < 0).any()):
            return False
        signs = torch.where(signs == 0, wanted, signs)
    signs = torch.where(signs == 0, 1.0, signs)
    producer.emit_integers(signs if bool((signs < 0).any()) else None)
    for consumer, s, t, repeats in found:
        set_thresholds(consumer, s * signs, t, repeats)
    return True


def _repeats(producer: PackedLayer, consumer: PackedLayer, flat: bool) -> int:
    """Return how many inputs of the consumer are one channel of the producer; 0 if none are."""
    outputs, inputs = producer.shape[0], consumer.shape[1] * consumer.groups
    dims = [len(layer.shape) - 2 for layer in (producer, consumer)]
    if flat:
        return inputs // outputs if dims[1] == 0 < dims[0] and inputs % outputs == 0 else 0
    return int(dims[0] == dims[1] and inputs == outputs)


def _wanted(producer: PackedLayer, path: Path, s: Tensor) -> Tensor:
    """Return by which sign a pooling wants the sums multiplied; 0 where it does not matter."""
    if path.pool == "after":
        return s
    if path.pool == "before" and producer.scale is not None:
        return torch.where(producer.scale < 0, -1.0, 1.0)
    return torch.full_like(s, float(path.pool == "before"))
