"""Floats that several packed layers quantize alike are quantized once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ste_lightning.deploy.fusion.code_layers import Encoder
from ste_lightning.deploy.fusion.consumers import readers_of
from ste_lightning.deploy.fusion.requantize import reads_codes
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.input_quantizers import LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["encoded_once"]


def encoded_once(steps: Sequence[Step], flow: Flow) -> tuple[list[Step], dict[str, Any], set[str]]:
    """Put one quantization in the place of several equal ones.

    Bits are left to the layers that read them: those are packed as they are compared.

    Args:
        steps: a network's steps.
        flow: who uses which result of theirs.

    Returns:
        The steps; what the new ones call, by name; and the results of the steps that get codes.
    """
    given = {step.result for step in steps if readers_of(step, flow) is not None}
    called: dict[str, Any] = {}
    coded: set[str] = set()
    found: list[Step] = []
    groups: dict[str, tuple[PackedLayer, str]] = {}  # of a result: who quantized it first
    for step in steps:
        layer = _levels_of(step, flow)
        source = step.args[0].name if layer is not None else ""
        if layer is not None and source not in given:
            alike = [user for user in flow.users[source] if _alike(layer, _levels_of(user, flow))]
            first = groups.get(source)
            if first is None and len(alike) > 1:
                name = f"{source} quantized"
                groups[source] = first = (layer, name)
                called[name] = Encoder(layer)
                found.append(Step(name, "run", name, step.args, {}))
            if first is not None and _alike(first[0], layer):
                step = replace(step, args=(Ref(first[1]),))
                coded.add(step.result)
        found.append(step)
    return found, called, coded


def _levels_of(step: Step, flow: Flow) -> PackedLayer | None:
    """Return the layer that a step calls, if it quantizes floats to several bits."""
    module = flow.layer(step)
    if module is None or not reads_codes(module):
        return None
    return module if isinstance(module.input, LevelsInput) else None


def _alike(one: PackedLayer, other: nn.Module | None) -> bool:
    """Return whether two layers make the same codes of the same input."""
    if not isinstance(other, PackedLayer) or len(one.shape) != len(other.shape):
        return False
    a, b = one.input, other.input
    assert isinstance(a, LevelsInput)
    assert isinstance(b, LevelsInput)
    return torch.equal(a.thresholds, b.thresholds) and torch.equal(a.factor, b.factor)
