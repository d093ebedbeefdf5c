"""A captured network as exporters need it: what is between packed layers folded into them.

The same thresholds of integers decide as when the network runs here; batch norms of a packed
layer's results become its scales and biases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.fusion.batch_norm import norm_line
from ste_lightning.deploy.fusion.fold import fold_thresholds
from ste_lightning.deploy.fusion.rows import as_rows
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.plan import planned
from ste_lightning.deploy.graph.simplify import is_in_place, replaced, rewired
from ste_lightning.deploy.graph.steps import CONSTANT, Ref, Step, references
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Folded", "folded"]

_KEEP = {
    "max_pool1d", "max_pool2d", "max_pool3d", "flatten.using_ints", "view", "reshape", "dropout",
    "contiguous", " rows", " shaped", "relu",
}  # fmt: skip


@dataclass(frozen=True)
class Folded:
    """What to export.

    Attributes:
        inputs: names of the inputs.
        steps: in order.
        layers: packed modules by name.
        constants: by the names that steps use.
        output: a tree of references.
        whole: a bound on the inputs of each layer whose inputs are whole numbers.
    """

    inputs: list[str]
    steps: list[Step]
    layers: dict[str, nn.Module]
    constants: dict[str, Tensor]
    output: Any
    whole: dict[str, float]


def folded(network: PackedNetwork) -> Folded:
    """Return what to export of a captured network on the CPU."""
    graph = network.graph
    assert graph is not None
    names = [given.name for given in graph.inputs]
    layers: dict[str, nn.Module] = dict(network.layers())
    constants = {CONSTANT + name: value for name, value in network.constants().items()}
    steps: list[Step] = list(graph.steps)
    output = graph.output
    if not any(map(is_in_place, steps)):
        steps, constants = planned(steps, constants)
        if network.folds:
            steps, values = as_rows(layers, steps, output, constants, network.values)
            given = (layers, steps, output, constants, values)
            layers, steps = fold_thresholds(*given, floats=False)
        layers, steps, output = _norms_in_layers(layers, steps, output, constants)
    whole = _whole(layers, steps)
    used = {name for step in steps for name in references((step.args, step.kwargs))}
    used |= set(references(output))
    constants = {name: value for name, value in constants.items() if name in used}
    return Folded(names, steps, layers, constants, output, whole)


def _whole(layers: dict[str, nn.Module], steps: Sequence[Step]) -> dict[str, float]:
    """Return a bound on the inputs of the layers that get whole numbers at every call."""
    bounds: dict[str, float] = {}
    found: dict[str, float] = {}
    for step in steps:
        given = step.args[0].name if step.args and isinstance(step.args[0], Ref) else ""
        layer = layers.get(step.target) if step.op == "layer" else None
        if layer is None:
            if step.target in _KEEP and given in bounds:
                bounds[step.result] = bounds[given]
            continue
        found[step.target] = max(found.get(step.target, 0.0), bounds.get(given, math.inf))
        if isinstance(layer, PackedLayer) and layer.integers and layer.bias is None:
            bounds[step.result] = layer.largest_sum()
    return {name: bound for name, bound in found.items() if bound < math.inf}


def _norms_in_layers(
    layers: dict[str, nn.Module], steps: list[Step], output: Any, constants: dict[str, Tensor]
) -> tuple[dict[str, nn.Module], list[Step], Any]:
    """Let layers scale and shift their sums as the batch norms after them do."""
    flow = Flow(layers, steps, output, constants, {})
    made = {step.result: step for step in steps if step.op == "layer"}
    layers, gone = dict(layers), {}
    for step in steps:
        source = step.args[0].name if step.args and isinstance(step.args[0], Ref) else ""
        before = made.get(source)
        if step.target != "batch_norm" or before is None or flow.following(before) is None:
            continue
        layer, norm = layers[before.target], _norm(step, constants)
        usual = isinstance(layer, (PackedConv, PackedLinear)) and not layer.integers
        if norm is None or not usual or flow.calls[before.target] > 1:
            continue
        layers[before.target] = _scaled(layer, *norm)
        gone[step.result] = Ref(source)
    kept = [rewired(step, gone) for step in steps if step.result not in gone]
    return layers, kept, replaced(output, gone)


def _norm(step: Step, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return factor and shift of a batch norm of known statistics."""
    *given, training, _, eps = step.args[1:8]
    weight, bias, mean, variance = (
        constants.get(p.name) if isinstance(p, Ref) else None for p in given
    )
    unknown = any(isinstance(p, Ref) and p.name not in constants for p in given)
    if training or unknown or mean is None or variance is None:
        return None
    return norm_line(weight, bias, mean, variance, eps)


def _scaled(layer: Any, factor: Tensor, shift: Tensor) -> PackedLayer:
    """Return a twin of a layer whose results are multiplied and shifted, per output."""
    twin: PackedLayer = layer.twin()
    scale = torch.ones(layer.shape[0]) if layer.scale is None else layer.scale
    twin.scale = (scale.double() * factor.view(-1, *[1] * (scale.dim() - 1))).float()
    twin.bias = (shift if layer.bias is None else layer.bias.double() * factor + shift).float()
    twin.forget()
    return twin
