"""Which layers of a packed network are computed together, with bits between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ste_lightning.deploy.chain import Chain, accepts_bits, follows
from ste_lightning.deploy.layers import PackedLayer
from ste_lightning.deploy.steps import Ref, Step, flattens, references
from ste_lightning.deploy.tail import tail_length
from ste_lightning.deploy.windows import POOLS

__all__ = ["runs_of"]


def runs_of(
    layers: Mapping[str, nn.Module], steps: Sequence[Step], output: Any
) -> tuple[tuple[Step, ...], dict[str, Chain]]:
    """Join packed layers that only hand bits on to each other.

    Args:
        layers: name -> module.
        steps: the network's steps.
        output: what the network returns.

    Returns:
        The steps with every run in the place of its first layer, and the runs by name.
    """
    flow = _Flow(layers, steps, output)
    runs: dict[str, Chain] = {}
    found: list[Step] = []
    inside: set[str] = set()
    for step in steps:
        if step.result in inside:
            continue
        parts = _run_from(step, flow)
        tail = _tail_from(parts[-1], flow) if parts else []
        if len(parts) + len(tail) > 1:
            both = [*parts, *tail]
            inside |= {part.result for part, _ in both}
            last = both[-1][0].result
            runs[last] = Chain([module for _, module in parts], [module for _, module in tail])
            step = replace(step, result=last, op="run", target=last)
        found.append(step)
    return tuple(found), runs


class _Flow:
    """Who uses which result."""

    def __init__(self, layers: Mapping[str, nn.Module], steps: Sequence[Step], output: Any) -> None:
        self.layers = layers
        self.returned = set(references(output))
        self.users: defaultdict[str, list[Step]] = defaultdict(list)
        for step in steps:
            for name in references((step.args, step.kwargs)):
                self.users[name].append(step)

    def next(self, step: Step) -> tuple[Step, nn.Module] | None:
        """Return the only use of a result, if it is a module's only argument."""
        users = self.users[step.result]
        if len(users) != 1 or step.result in self.returned:
            return None
        module = nn.Flatten() if flattens(users[0], self.layers) else simple(users[0], self.layers)
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


_Part = tuple[Step, nn.Module]


def _run_from(step: Step, flow: _Flow) -> list[_Part]:
    """Return the longest run that begins with a step."""
    layer = simple(step, flow.layers)
    if layer is None or not accepts_bits(layer):
        return []
    run: list[_Part] = [(step, layer)]
    between: list[_Part] = []
    found = flow.next(step)
    while found is not None:
        at, module = found
        if type(module) in (*POOLS, nn.Flatten):
            between.append(found)
        else:
            assert isinstance(layer, PackedLayer)
            if not accepts_bits(module) or not isinstance(module, PackedLayer):
                break
            if not follows(layer, [part for _, part in between], module):
                break
            run += [*between, found]
            between, layer = [], module
        found = flow.next(at)
    return run


def _tail_from(last: _Part, flow: _Flow) -> list[_Part]:
    """Return the float layers after a run that one pass computes; no quantizer may follow."""
    step, layer = last
    if flow.quantized_after(step):
        return []
    assert isinstance(layer, PackedLayer)
    after: list[_Part] = []
    found = flow.next(step)
    while found is not None:
        after.append(found)
        found = flow.next(found[0])
    return after[: tail_length([module for _, module in after], len(layer.shape) - 2)]


def simple(step: Step, layers: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the module that a step calls with one earlier result, if it does that."""
    plain = step.op == "layer" and len(step.args) == 1 and not step.kwargs
    return layers[step.target] if plain and isinstance(step.args[0], Ref) else None
