"""A network's graph for one sample: every size is a number, every branch on sizes is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.fusion.fold import fold_thresholds
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.operators import SIZES, resolved
from ste_lightning.deploy.graph.plan import planned
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.deploy.graph.simplify import is_in_place, rewired, without_unused
from ste_lightning.deploy.graph.steps import CONSTANT, Ref, Step, applied, references
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.errors import ConfigurationError, require

__all__ = ["Frozen", "frozen"]


@dataclass(frozen=True)
class Frozen:
    """What is computed of one sample.

    Attributes:
        steps: in order, folded as in the packed network.
        flow: who uses which result, with the layers, constants and results.
        input, output: their names.
        sample: the input.
    """

    steps: list[Step]
    flow: Flow
    input: str
    output: str
    sample: Tensor


@torch.no_grad()
def frozen(network: PackedNetwork, example: Any) -> Frozen:
    """Return a captured network's steps for one sample.

    Args:
        network: captured.
        example: inputs, whose first sample is taken.

    Raises:
        ConfigurationError: unless it takes one float32 tensor and returns one, without changing
            tensors in place.
    """
    graph = network.graph
    assert graph is not None
    args, kwargs = arguments(example)
    given = network.inputs(args, kwargs)
    _require_one("inputs", len(given) == 1 and given[0].dtype == torch.float32)
    _require_one("outputs", isinstance(graph.output, Ref))
    sizes = graph.inputs[0].sizes
    require(
        len(sizes) > 1 and sizes[0] in (None, 1),
        "example",
        tuple(given[0].shape),
        "the network's batch is fixed: pack it with one sample",
    )
    sample, layers = given[0][:1].contiguous(), network.layers()
    constants = {CONSTANT + name: value for name, value in network.constants().items()}
    values: dict[str, Any] = {**constants, graph.inputs[0].name: sample}
    known: dict[str, Any] = {}
    firsts: dict[str, Any] = {}
    steps: list[Step] = []
    for step in graph.steps:
        if is_in_place(step):
            raise ConfigurationError(f"format='c' has no operator that changes a tensor: {step}.")
        values[step.result] = value = _result(step, layers, values)
        if step.target == "sizes.getitem" and step.args[1] == 0 and isinstance(value, Tensor):
            known[step.result] = step.args[0]  # of several results the first is computed
            firsts[step.args[0].name] = value
        elif step.target in SIZES and not isinstance(value, Tensor):
            known[step.result] = value
        else:
            step = rewired(step, known)
            steps.append(step)
            if not references((step.args, step.kwargs)):
                constants[step.result] = value
    values |= firsts
    output = known.get(graph.output.name, graph.output)
    steps, constants = planned(steps, constants)
    if network.folds:
        layers, steps = fold_thresholds(dict(layers), steps, output, constants, values)
    steps = without_unused([s for s in steps if s.result not in constants], output)
    flow = Flow(layers, steps, output, constants, values)
    return Frozen(steps, flow, graph.inputs[0].name, output.name, sample)


def _require_one(what: str, right: bool) -> None:
    require(right, what, "other", "format='c' takes one float32 tensor and returns one")


def _result(step: Step, layers: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    if step.op != "layer":
        return applied(resolved(step.target), step, values)
    layer = layers[step.target]
    return applied(layer.computed if isinstance(layer, Opaque) else layer, step, values)
