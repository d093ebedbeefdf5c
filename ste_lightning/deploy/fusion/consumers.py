"""Which packed layers read the codes of another one's sums."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ste_lightning.deploy.fusion.pool_windows import POOLS
from ste_lightning.deploy.fusion.requantize import (
    Emission,
    emission_for,
    gives_integers,
    reads_codes,
)
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow, Part
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Readers", "readers_of"]


@dataclass(frozen=True)
class Readers:
    """Who reads a layer's codes.

    Attributes:
        emission: how its sums become them.
        between: the poolings and flattenings on the way.
        layers: the steps of the layers that read them.
    """

    emission: Emission
    between: list[Part]
    layers: list[Step]


def readers_of(step: Step, flow: Flow) -> Readers | None:
    """Return who reads the codes of a layer's sums.

    ``None`` unless all that use them are packed layers that make the same codes of them.

    Args:
        step: what calls the layer.
        flow: who uses which result.
    """
    layer = flow.layer(step)
    if layer is None or not gives_integers(layer):
        return None
    dims = len(layer.shape) - 2
    between: list[Part] = []
    found: list[Step] = []
    emission: Emission | None = None
    waiting = [(step, False)]
    while waiting:
        at, flat = waiting.pop()
        if at.result in flow.returned or not flow.users[at.result]:
            return None
        for user in flow.users[at.result]:
            module = flow.part(user)
            if type(module) is nn.Flatten or (0 < dims < 3 and type(module) is POOLS[dims - 1]):
                if flat:
                    return None
                between.append((user, module))
                waiting.append((user, type(module) is nn.Flatten))
                continue
            if not isinstance(module, PackedLayer) or not reads_codes(module):
                return None
            one = emission_for(layer, module, flat)
            if one is None or not (emission is None or emission.same(one)):
                return None
            emission = one
            found.append(user)
    return None if emission is None else Readers(emission, between, found)
