"""Batch norms of floats before packed layers, folded into thresholds on floats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from ste_lightning.deploy.fusion.float_thresholds import float_thresholds
from ste_lightning.deploy.fusion.integer_thresholds import NORMS, keeps_order
from ste_lightning.deploy.fusion.paths import is_open
from ste_lightning.deploy.fusion.set_thresholds import set_thresholds, uniform
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.input_quantizers import LevelsInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.layers import RSign

__all__ = ["fold_floats"]

_MOST = 15  # thresholds: more are found faster where all channels have the same


def fold_floats(
    layers: Mapping[str, nn.Module], steps: list[Step], output: object
) -> dict[str, object]:
    """Fold what only packed layers use, and return what takes the place of its results.

    Args:
        layers: name -> module; quantizers of the packed ones may be replaced.
        steps: the network's steps.
        output: what the network returns.
    """
    flow = Flow(layers, steps, output)
    made = {step.result: step for step in steps}
    calls = Counter(step.target for step in steps if step.op == "layer")
    gone: dict[str, object] = {}
    readers: dict[str, list[Any]] = {}  # of the results that are gone
    before: dict[Any, list[nn.Module]] = {}
    for step in reversed(steps):
        module = flow.module(step)
        if module is None or not keeps_order(module) or step.result in flow.returned:
            continue
        found: list[Any] = []
        for user in flow.users[step.result]:
            consumer = flow.module(user)
            after: list[Any] = [consumer] if calls[user.target] == 1 else []
            after = readers.get(user.result, after)
            if not after or not all(_fits(module, layer, step, made, flow) for layer in after):
                break
            found += after
        else:
            if found:
                gone[step.result], readers[step.result] = step.args[0], found
                for layer in found:
                    before.setdefault(layer, []).insert(0, module)
    for layer, modules in before.items():
        dims, channels = len(layer.shape) - 2, layer.shape[1] * layer.groups
        s, t, below = float_thresholds(modules, uniform(layer.input), channels, dims)
        set_thresholds(layer, s, t, below=below)
    return gone


def _fits(
    module: nn.Module,
    consumer: nn.Module | None,
    step: Step,
    made: Mapping[str, Step],
    flow: Flow,
) -> bool:
    """Return whether the channels of a module and of the packed layer that uses it are the same."""
    known = isinstance(consumer, (PackedConv, PackedLinear))
    if not known or not isinstance(consumer, PackedLayer) or not is_open(consumer):
        return False
    if isinstance(consumer.input, LevelsInput) and consumer.input.thresholds.shape[1] > _MOST:
        return False
    if len(consumer.shape) > 2:
        return True
    channelwise = (*NORMS, RSign, nn.PReLU)
    return type(module) not in channelwise or _is_of_rows(step, made, flow)


def _is_of_rows(step: Step, made: Mapping[str, Step], flow: Flow) -> bool:
    """Return whether a result certainly has two axes: it descends from something flattened."""
    kinds = (nn.Linear, PackedLinear)
    at: Step | None = step
    while at is not None:
        module = flow.module(at)
        if type(module) is nn.Flatten:
            return True
        if module is None or not (type(module) in kinds or keeps_order(module)):
            return False
        source = at.args[0]
        assert isinstance(source, Ref)
        at = made.get(source.name)
    return False
