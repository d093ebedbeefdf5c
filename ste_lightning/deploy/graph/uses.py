"""Who uses which result of a graph, and what its steps are to a fusion."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.operators import resolved
from ste_lightning.deploy.graph.steps import Ref, Step, filled, references
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["ELEMENTWISE", "Elementwise", "Flow", "Part"]

Part = tuple[Step, Any]

_ORDERED = """
relu relu6 hardtanh sign clamp clamp_min clamp_max add.Tensor sub.Tensor mul.Tensor div.Tensor
"""
_KEEPS_ORDER = frozenset(_ORDERED.split())
_OTHERS = """
batch_norm leaky_relu prelu tanh sigmoid silu gelu elu selu celu mish softplus hardsigmoid hardswish
abs neg sign exp square sqrt round floor ceil pow.Tensor_Scalar rsub.Scalar maximum minimum
clamp.Tensor erf log_sigmoid add.Scalar sub.Scalar mul.Scalar div.Scalar threshold ge.Scalar
gt.Scalar le.Scalar lt.Scalar ge.Tensor gt.Tensor le.Tensor lt.Tensor
"""
ELEMENTWISE = _KEEPS_ORDER | frozenset(_OTHERS.split())


class Elementwise:
    """A step that computes every number of its input by itself, alike in a channel.

    Args:
        step: the step.
        constants: its constants, by the names that it uses.
        keeps_order: whether, per channel, results only rise or only fall, rounded too.
    """

    def __init__(self, step: Step, constants: Mapping[str, Tensor], keeps_order: bool) -> None:
        self._function: Callable[..., Any] = resolved(step.target)
        self.keeps_order, self.is_norm = keeps_order, step.target == "batch_norm"
        self._args = filled(step.args[1:], lambda ref: constants[ref.name], lambda record: record)
        self._kwargs = step.kwargs

    def __call__(self, x: Tensor) -> Tensor:
        """Return the results of numbers whose channels are on axis 1."""
        y: Tensor = self._function(x, *self._args, **self._kwargs)
        return y


class Flow:
    """Who uses which result.

    Args:
        layers: name -> packed module.
        steps: the graph's.
        output: what the graph returns.
        constants: by the names that steps use.
        values: result -> a tensor of its shape and type.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        steps: Sequence[Step],
        output: Any,
        constants: Mapping[str, Tensor],
        values: Mapping[str, Any],
    ) -> None:
        self.layers, self.constants, self.values = layers, constants, values
        self.returned = set(references(output))
        self.calls = Counter(step.target for step in steps if step.op == "layer")
        self.users: defaultdict[str, list[Step]] = defaultdict(list)
        self._parts: dict[str, Any] = {}
        for step in steps:
            for name in references((step.args, step.kwargs)):
                self.users[name].append(step)

    def rank(self, name: str) -> int:
        """Return the number of a result's axes, -1 for what is no float32 tensor."""
        value = self.values.get(name)
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            return value.dim()
        return -1

    def layer(self, step: Step) -> PackedLayer | None:
        """Return the packed layer that a step calls with floats of the rank it is made for."""
        module = self.layers.get(step.target) if step.op == "layer" else None
        if not isinstance(module, PackedLayer) or len(step.args) != 1:
            return None
        return module if self.rank(step.args[0].name) == len(module.shape) else None

    def part(self, step: Step) -> Any:
        """Return what a step is: a packed layer, max pooling, flattening, or elementwise."""
        if step.op == "layer":
            return self.layer(step)
        if step.result not in self._parts:
            self._parts[step.result] = self._part(step)
        return self._parts[step.result]

    def _part(self, step: Step) -> Any:
        if step.op != "function" or not step.args or not isinstance(step.args[0], Ref):
            return None
        name, rest = step.target, step.args[1:]
        if name in ("max_pool1d", "max_pool2d") and not references((rest, step.kwargs)):
            kind = nn.MaxPool1d if name == "max_pool1d" else nn.MaxPool2d
            kernel, stride, padding, dilation, ceil = (*rest, *_POOL_DEFAULTS[len(rest) :])
            given = (kernel, stride or kernel, padding, dilation)
            axes = 1 if kind is nn.MaxPool1d else 2
            sizes = [_sizes(value, axes) for value in given]
            if self.rank(step.args[0].name) != axes + 2 or step.kwargs:
                return None
            k, stride, padding, dilation = sizes
            return kind(k, stride, padding, dilation, ceil_mode=bool(ceil))
        if name == "flatten.using_ints" and tuple(rest) in ((1, -1), (1,)):
            return nn.Flatten()
        return self._elementwise(step)

    def _elementwise(self, step: Step) -> Elementwise | None:
        name, first, rest = step.target, step.args[0], step.args[1:]
        rank = self.rank(first.name)
        if name not in ELEMENTWISE or rank < 2 or self.rank(step.result) != rank:
            return None
        used = references((rest, step.kwargs))
        if references(step.kwargs) or any(other not in self.constants for other in used):
            return None
        found = {other: self.constants[other] for other in used}
        if name == "batch_norm":
            running = len(rest) > 4 and rest[2] is not None and rest[4] is False
            return Elementwise(step, found, True) if running else None
        channels = self.values[first.name].shape[1]
        ordered = name in _KEEPS_ORDER
        for key, value in found.items():
            if name == "prelu":
                ordered = bool((value >= 0).all())
                fits = value.numel() in (1, channels)
            else:
                fits = _is_per_channel(value, rank)
                ordered = ordered and bool(torch.isfinite(value).all())
            if not fits or key == first.name:
                return None
        if name == "leaky_relu":
            ordered = not rest or rest[0] >= 0
        return Elementwise(step, found, ordered)

    def following(self, step: Step) -> Step | None:
        """Return the only use of a result."""
        users = self.users[step.result]
        return users[0] if len(users) == 1 and step.result not in self.returned else None

    def next(self, step: Step) -> Part | None:
        """Return the only use of a result and what it is, if that is known."""
        user = self.following(step)
        part = None if user is None else self.part(user)
        return None if user is None or part is None else (user, part)

    def quantized_after(self, step: Step) -> bool:
        """Return whether a result reaches a packed layer."""
        waiting, seen = [step.result], set()
        while waiting:
            name = waiting.pop()
            for user in self.users[name]:
                if user.op == "layer":
                    return True
                if user.result not in seen:
                    seen.add(user.result)
                    waiting.append(user.result)
        return False


_POOL_DEFAULTS: tuple[Any, ...] = ((), (), 0, 1, False)


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    found = (value,) if isinstance(value, int) else tuple(value)
    return found * axes if len(found) == 1 else found


def _is_per_channel(value: Tensor, rank: int) -> bool:
    """Return whether a constant broadcasts to one number per channel, on axis 1."""
    shape = [*[1] * (rank - value.dim()), *value.shape]
    return value.dim() <= rank and all(n == 1 for axis, n in enumerate(shape) if axis != 1)
