"""What a captured graph does not need: aliases, casts to the same type, results nobody uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.graph.operators import is_known
from ste_lightning.deploy.graph.steps import Ref, Step, filled, references

__all__ = ["is_in_place", "replaced", "rewired", "simplified", "without_unused"]

_FRESH = (
    *("conv", "linear", "batch_norm", "add", "mul", "sub", "div", "mm", "bmm", "matmul", "cat"),
    *("layer_norm", "group_norm", "max_pool", "avg_pool", "relu", "hardtanh", "silu", "gelu"),
    *("sign", "sigmoid", "tanh", "elu", "leaky_relu", "mish", "hardswish", "clamp"),
)
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout")
_SAME = ("alias", "detach", "lift_fresh_copy", "clone", "contiguous", "resolve_conj", "resolve_neg")
_CASTS = ("to.dtype", "to.other", "to.device", "to.dtype_layout", "_to_copy", "type_as", "expand")
_VIEWS = ("view", "_unsafe_view", "reshape", "unflatten.int", "flatten.using_ints")


def is_in_place(step: Step) -> bool:
    """Return whether a step changes its first argument."""
    packet = step.target.partition(".")[0]
    return step.op == "function" and packet.endswith("_") and not packet.endswith("__")


def replaced(value: Any, gone: Mapping[str, Any]) -> Any:
    """Return a value, such as an output, with what takes the place of results that are gone."""

    def of(ref: Ref) -> Any:
        found: Any = ref
        while isinstance(found, Ref) and found.name in gone:
            found = gone[found.name]
        return found

    return filled(value, of, lambda r: r)


def rewired(step: Step, gone: Mapping[str, Any]) -> Step:
    """Return a step with what takes the place of results that are gone."""
    args = tuple(replaced(value, gone) for value in step.args)
    return replace(step, args=args, kwargs=replaced(step.kwargs, gone))


def simplified(
    steps: Sequence[Step], output: Any, values: Mapping[str, Any]
) -> tuple[list[Step], Any]:
    """Return the steps and the output without what is not needed.

    Args:
        steps: of a captured graph.
        output: its tree.
        values: result -> the value while capturing, whose sizes may be symbols.
    """
    steps = _functional(steps, output)
    gone: dict[str, Any] = {}
    kept: list[Step] = []
    mutates = any(map(is_in_place, steps))
    for step in steps:
        step = rewired(step, gone)
        if step.op == "function" and not mutates:
            if _is_alias(step, values):
                gone[step.result] = step.args[0]
                continue
            step = _reshaped(step, values)
        kept.append(step)
    output = replaced(output, gone)
    return without_unused(kept, output), output


def without_unused(steps: Sequence[Step], output: Any) -> list[Step]:
    """Return the steps whose results are used, and those that act otherwise."""
    used, kept = set(references(output)), []
    for step in reversed(steps):
        if step.result in used or is_in_place(step) or step.target == "sizes.check":
            used.update(references((step.args, step.kwargs)))
            kept.append(step)
    return kept[::-1]


def _functional(steps: Sequence[Step], output: Any) -> list[Step]:
    """Return the steps with activations computed in place by their ordinary twins.

    That is the same where the input is a result of its own that nobody else uses.
    """
    uses = Counter(name for step in steps for name in references((step.args, step.kwargs)))
    uses.update(references(output))
    fresh: set[str] = set()
    found: list[Step] = []
    for step in steps:
        packet, _, overload = step.target.partition(".")
        source = references(step.args[:1])
        alone = bool(source) and source[0] in fresh and uses[source[0]] == 1
        if is_in_place(step) and alone:
            twin = packet.rstrip("_") + (f".{overload}" if overload else "")
            step = replace(step, target=twin) if is_known(twin) else step
        found.append(step)
        if step.op == "layer" or (step.target.startswith(_FRESH) and not is_in_place(step)):
            fresh.add(step.result)
    return found


def _is_alias(step: Step, values: Mapping[str, Any]) -> bool:
    """Return whether a step returns its first argument, as numbers."""
    name = step.target
    if name in _DROPOUTS:
        return len(step.args) > 2 and step.args[2] is False
    if name in _SAME:
        return True
    if name not in _CASTS or not isinstance(step.args[0], Ref):
        return False
    before, after = values.get(step.args[0].name), values.get(step.result)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    return before.dtype == after.dtype and list(map(str, before.shape)) == list(
        map(str, after.shape)
    )


def _reshaped(step: Step, values: Mapping[str, Any]) -> Step:
    """Return a view as what it is: flattening all axes but the first, or a reshape."""
    if step.target not in _VIEWS or not isinstance(step.args[0], Ref):
        return step
    before, after = values.get(step.args[0].name), values.get(step.result)
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = str(before.shape[:1]) == str(after.shape[:1])
        if before.dim() > 2 == after.dim() and same and isinstance(before.shape[0], torch.SymInt):
            return replace(step, target="flatten.using_ints", args=(step.args[0], 1, -1), kwargs={})
    if step.target in ("view", "_unsafe_view"):
        return replace(step, target="reshape")
    return step
