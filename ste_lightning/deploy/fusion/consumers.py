"""Which packed layers read the codes of another one's sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ste_lightning.deploy.fusion.paths import paths_from
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


def readers_of(
    step: Step,
    flow: Flow,
    reads: Callable[[PackedLayer], bool] = reads_codes,
    gives: Callable[[PackedLayer], bool] = gives_integers,
) -> Readers | None:
    """Return who reads the codes of a layer's sums.

    ``None`` unless all that use them are packed layers that make the same codes of them.

    Args:
        step: what calls the layer.
        flow: who uses which result.
        reads, gives: which layers can be given codes, and give them.
    """
    layer = flow.layer(step)
    if layer is None or not gives(layer):
        return None
    paths = paths_from(step, flow, reads)
    emission: Emission | None = None
    for path in paths:
        reader = flow.layer(path.consumer)
        assert reader is not None
        one = None if path.between else emission_for(layer, reader, path.flat)
        if one is None or not (emission is None or emission.same(one)):
            return None
        emission = one
    between = {part[0].result: part for path in paths for part in path.moves}
    layers = [path.consumer for path in paths]
    return None if emission is None else Readers(emission, list(between.values()), layers)
