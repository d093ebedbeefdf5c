"""Which layers of a packed network are computed together, with bits between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ste_lightning.deploy.chain import POOLS, Chain, accepts_bits, follows
from ste_lightning.deploy.layers import PackedLayer
from ste_lightning.deploy.steps import Ref, Step, references

__all__ = ["flattens", "runs_of"]


def flattens(step: Step, layers: Mapping[str, nn.Module]) -> bool:
    """Return whether a step flattens all axes but the first."""
    if step.op == "layer":
        module = layers[step.target]
        plain = len(step.args) == 1 and not step.kwargs
        return (
            plain and type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
        )
    if step.target not in ("flatten", ".flatten") or not step.args:
        return False
    return (step.args[1:], step.kwargs) in (((1,), {}), ((), {"start_dim": 1}))


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
    uses = Counter(references(output))
    users: dict[str, Step] = {}
    for step in steps:
        for name in references((step.args, step.kwargs)):
            uses[name] += 1
            users[name] = step
    runs: dict[str, Chain] = {}
    found: list[Step] = []
    inside: set[str] = set()
    for step in steps:
        if step.result in inside:
            continue
        parts, last = _run_from(step, layers, uses, users)
        if len(parts) > 1:
            inside |= {part.result for part, _ in parts}
            runs[last] = Chain([module for _, module in parts])
            step = replace(step, result=last, op="run", target=last)
        found.append(step)
    return tuple(found), runs


_Part = tuple[Step, nn.Module]


def _run_from(
    step: Step, layers: Mapping[str, nn.Module], uses: Counter[str], users: Mapping[str, Step]
) -> tuple[list[_Part], str]:
    """Return the longest run that begins with a step, and its result's name."""
    first = _simple(step, layers)
    if first is None or not accepts_bits(first):
        return [], step.result
    run: list[_Part] = [(step, first)]
    between: list[_Part] = []
    layer, at = first, step
    while uses[at.result] == 1 and at.result in users:
        at = users[at.result]
        module = nn.Flatten() if flattens(at, layers) else _simple(at, layers)
        if module is None:
            break
        if type(module) in (*POOLS, nn.Flatten):
            between.append((at, module))
            continue
        modules = [part for _, part in between]
        assert isinstance(layer, PackedLayer)
        if not accepts_bits(module) or not isinstance(module, PackedLayer):
            break
        if not follows(layer, modules, module):
            break
        run += [*between, (at, module)]
        between, layer = [], module
    return run, run[-1][0].result


def _simple(step: Step, layers: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the module that a step calls with one earlier result, if it does that."""
    plain = step.op == "layer" and len(step.args) == 1 and not step.kwargs
    return layers[step.target] if plain and isinstance(step.args[0], Ref) else None
