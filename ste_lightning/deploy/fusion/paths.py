"""The ways from a packed layer's results to the packed layers that quantize them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ste_lightning.deploy.fusion.requantize import MOST_STEPS
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.layers import RPReLU, RSign

__all__ = ["ELEMENTWISE", "Path", "is_open", "paths_from"]

ELEMENTWISE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.Hardtanh,
    nn.ReLU,
    nn.ReLU6,
    nn.PReLU,
    nn.LeakyReLU,
    nn.Tanh,
    RPReLU,
    RSign,
)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d)


@dataclass(frozen=True)
class Path:
    """A way from a layer to one that quantizes its results.

    Attributes:
        between: what is called element by element, in order.
        pool: whether max pooling comes ``"before"`` or ``"after"`` that; ``""`` for none.
        flat: whether the result is flattened.
        consumer: the call of the layer at the end.
    """

    between: tuple[Step, ...]
    pool: str
    flat: bool
    consumer: Step


def is_open(layer: nn.Module) -> bool:
    """Return whether a layer's quantizer has the same thresholds for all channels."""
    if not isinstance(layer, PackedLayer):
        return False
    quantizer = layer.input
    if isinstance(quantizer, LevelsInput):
        return len(quantizer.thresholds) == 1
    if not isinstance(quantizer, BinaryInput):
        return False
    ends = (quantizer.factor, quantizer.offset)
    return all(value is None or bool((value == value[0]).all()) for value in ends)


def paths_from(step: Step, flow: Flow, calls: Mapping[str, int] | Counter[str]) -> list[Path]:
    """Return all ways on which a layer's result is used, or none if one leads elsewhere.

    Args:
        step: the call of a packed layer.
        flow: who uses which result.
        calls: how often each layer is called.
    """
    found: list[Path] = []
    waiting = [Path((), "", False, step)]
    while waiting:
        at = waiting.pop()
        users = flow.users[at.consumer.result]
        if not users or at.consumer.result in flow.returned:
            return []
        for user in users:
            path = _extended(at, user, flow)
            if path is None:
                return []
            if isinstance(flow.module(user), PackedLayer):
                if calls[user.target] > 1:
                    return []
                found.append(path)
            else:
                waiting.append(path)
    return found


def _extended(path: Path, user: Step, flow: Flow) -> Path | None:
    """Return the way that goes on with one more call; ``None`` if it cannot."""
    module = flow.module(user)
    if isinstance(module, PackedLayer):
        levels = module.input if isinstance(module.input, LevelsInput) else None
        few = levels is None or levels.thresholds.shape[1] <= MOST_STEPS
        return Path(path.between, path.pool, path.flat, user) if few and is_open(module) else None
    if path.flat:
        return None
    if type(module) is nn.Flatten:
        return Path(path.between, path.pool, True, user)
    if type(module) in _POOLS:
        pool = "after" if path.between else "before"
        return None if path.pool == "before" != pool else Path(path.between, pool, False, user)
    if type(module) in ELEMENTWISE and path.pool != "after":
        return Path((*path.between, user), path.pool, False, user)
    return None
