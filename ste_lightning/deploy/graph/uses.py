"""Who uses which result of a packed network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ste_lightning.deploy.graph.steps import Ref, Step, flattens, references
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Flow", "Part"]

Part = tuple[Step, nn.Module]


class Flow:
    """Who uses which result.

    Args:
        layers: name -> module.
        steps: the network's steps.
        output: what the network returns.
    """

    def __init__(self, layers: Mapping[str, nn.Module], steps: Sequence[Step], output: Any) -> None:
        self.layers = layers
        self.returned = set(references(output))
        self.users: defaultdict[str, list[Step]] = defaultdict(list)
        for step in steps:
            for name in references((step.args, step.kwargs)):
                self.users[name].append(step)

    def module(self, step: Step) -> nn.Module | None:
        """Return the module that a step calls with one earlier result, if it does that."""
        if flattens(step, self.layers):
            return nn.Flatten()
        plain = step.op == "layer" and len(step.args) == 1 and not step.kwargs
        return self.layers[step.target] if plain and isinstance(step.args[0], Ref) else None

    def next(self, step: Step) -> Part | None:
        """Return the only use of a result, if it is a module's only argument."""
        users = self.users[step.result]
        if len(users) != 1 or step.result in self.returned:
            return None
        module = self.module(users[0])
        return None if module is None else (users[0], module)

    def quantized_after(self, step: Step) -> bool:
        """Return whether a result reaches a packed layer."""
        waiting, seen = [step.result], set()
        while waiting:
            name = waiting.pop()
            for user in self.users[name]:
                if user.op == "layer" and _is_packed(self.layers[user.target]):
                    return True
                if user.result not in seen:
                    seen.add(user.result)
                    waiting.append(user.result)
        return False


def _is_packed(module: nn.Module) -> bool:
    return any(isinstance(part, PackedLayer) for part in module.modules())
