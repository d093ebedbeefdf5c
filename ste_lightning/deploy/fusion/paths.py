"""The ways from a packed layer's results to the packed layers that quantize them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ste_lightning.deploy.fusion.requantize import MOST_STEPS
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Elementwise, Flow
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Path", "is_open", "paths_from"]

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


def paths_from(step: Step, flow: Flow) -> list[Path]:
    """Return all ways on which a layer's result is used, or none if one leads elsewhere.

    Args:
        step: the call of a packed layer.
        flow: who uses which result.
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
            if user.op == "layer":
                if flow.calls[user.target] > 1:
                    return []
                found.append(path)
            else:
                waiting.append(path)
    return found


def _extended(path: Path, user: Step, flow: Flow) -> Path | None:
    """Return the way that goes on with one more call; ``None`` if it cannot."""
    part = flow.part(user)
    if isinstance(part, PackedLayer):
        levels = part.input if isinstance(part.input, LevelsInput) else None
        few = levels is None or levels.thresholds.shape[1] <= MOST_STEPS
        return Path(path.between, path.pool, path.flat, user) if few and is_open(part) else None
    if path.flat:
        return None
    if isinstance(part, nn.Flatten):
        return Path(path.between, path.pool, True, user)
    if type(part) in _POOLS:
        pool = "after" if path.between else "before"
        return None if path.pool == "before" != pool else Path(path.between, pool, False, user)
    if isinstance(part, Elementwise) and path.pool != "after":
        return Path((*path.between, user), path.pool, False, user)
    return None
