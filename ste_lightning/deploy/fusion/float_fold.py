"""Batch norms of floats before packed layers, folded into thresholds on floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ste_lightning.deploy.fusion.float_thresholds import float_thresholds
from ste_lightning.deploy.fusion.paths import is_open
from ste_lightning.deploy.fusion.set_thresholds import set_thresholds, uniform
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Elementwise, Flow
from ste_lightning.deploy.layers.input_quantizers import LevelsInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["fold_floats"]

_MOST = 15  # thresholds: more are found faster where all channels have the same


def fold_floats(flow: Flow, steps: Sequence[Step]) -> dict[str, object]:
    """Fold what only packed layers use, and return what takes the place of its results.

    Args:
        flow: who uses which result; quantizers of the packed layers may be replaced.
        steps: the network's steps.
    """
    gone: dict[str, object] = {}
    readers: dict[str, list[PackedLayer]] = {}  # of the results that are gone
    before: dict[PackedLayer, list[Elementwise]] = {}
    for step in reversed(steps):
        part = flow.part(step)
        if not isinstance(part, Elementwise) or not part.keeps_order:
            continue
        if step.result in flow.returned:
            continue
        found: list[PackedLayer] = []
        for user in flow.users[step.result]:
            layer = flow.layer(user)
            alone = layer is not None and flow.calls[user.target] == 1
            after: list[Any] = [layer] if alone else readers.get(user.result, [])
            if not after or not all(map(_fits, after)):
                break
            found += after
        else:
            if found:
                gone[step.result], readers[step.result] = step.args[0], found
                for layer in found:
                    before.setdefault(layer, []).insert(0, part)
    for layer, parts in before.items():
        dims, channels = len(layer.shape) - 2, layer.shape[1] * layer.groups
        s, t, below = float_thresholds(parts, uniform(layer.input), channels, dims)
        set_thresholds(layer, s, t, below=below)
    return gone


def _fits(layer: PackedLayer) -> bool:
    """Return whether thresholds may be folded into a layer's quantizer."""
    if not isinstance(layer, (PackedConv, PackedLinear)) or not is_open(layer):
        return False
    return not (isinstance(layer.input, LevelsInput) and layer.input.thresholds.shape[1] > _MOST)
