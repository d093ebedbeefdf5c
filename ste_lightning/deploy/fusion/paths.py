"""The ways from a packed layer's results to the packed layers that use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from ste_lightning.deploy.fusion.pool_windows import POOLS
from ste_lightning.deploy.fusion.requantize import MOST_STEPS
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Elementwise, Flow, Part
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Path", "is_open", "paths_from"]


@dataclass(frozen=True)
class Path:
    """A way from a layer to one that quantizes its results.

    Attributes:
        consumer: the call of the layer at the end.
        between: what is called element by element, in order.
        pool: whether max pooling comes ``"before"`` or ``"after"`` that; ``""`` for none.
        flat: whether the result is flattened.
        moves: the poolings and flattenings.
    """

    consumer: Step
    between: tuple[Step, ...] = ()
    pool: str = ""
    flat: bool = False
    moves: tuple[Part, ...] = ()


def is_open(layer: PackedLayer) -> bool:
    """Return whether a layer's quantizer has few thresholds, the same for all channels."""
    quantizer = layer.input
    if isinstance(quantizer, LevelsInput):
        return len(quantizer.thresholds) == 1 and quantizer.thresholds.shape[1] <= MOST_STEPS
    if not isinstance(quantizer, BinaryInput):
        return False
    ends = (quantizer.factor, quantizer.offset)
    return all(value is None or bool((value == value[0]).all()) for value in ends)


def paths_from(step: Step, flow: Flow, accepts: Callable[[PackedLayer], bool]) -> list[Path]:
    """Return all ways on which a layer's result is used, or none if one leads elsewhere.

    Args:
        step: the call of a packed layer.
        flow: who uses which result.
        accepts: whether a packed layer may be the end of one.
    """
    found: list[Path] = []
    waiting = [Path(step)]
    while waiting:
        at = waiting.pop()
        users = flow.users[at.consumer.result]
        if not users or at.consumer.result in flow.returned:
            return []
        for user in users:
            part = flow.part(user)
            if isinstance(part, PackedLayer):
                if not accepts(part):
                    return []
                found.append(replace(at, consumer=user))
                continue
            path = _extended(at, user, part)
            if path is None:
                return []
            waiting.append(path)
    return found


def _extended(path: Path, user: Step, part: object) -> Path | None:
    """Return the way that goes on with one more step; ``None`` if it cannot."""
    if path.flat:
        return None
    moves = (*path.moves, (user, part))
    if isinstance(part, nn.Flatten):
        return replace(path, consumer=user, flat=True, moves=moves)
    if type(part) in POOLS:
        pool = "after" if path.between else "before"
        if path.pool == "before" != pool:
            return None
        return replace(path, consumer=user, pool=pool, moves=moves)
    if isinstance(part, Elementwise) and path.pool != "after":
        return replace(path, consumer=user, between=(*path.between, user))
    return None
