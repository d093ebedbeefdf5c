"""Linear layers of tensors with many axes, as in transformers, as linear layers of rows.

All axes but the last are one while linear layers follow each other with nothing but elementwise
steps between them; so what is known of rows (thresholds, codes, one quantization for several
layers) holds for tokens too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.simplify import without_unused
from ste_lightning.deploy.graph.steps import Ref, Step, references
from ste_lightning.deploy.graph.uses import ELEMENTWISE
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear

__all__ = ["ROWS", "as_rows"]

_OF_AXIS_1 = ("batch_norm", "prelu")


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(*like.shape[:-1], rows.shape[-1])


ROWS: dict[str, Callable[..., Tensor]] = {" rows": _rows, " shaped": _shaped}


def as_rows(
    layers: Mapping[str, nn.Module],
    steps: Sequence[Step],
    output: Any,
    constants: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> tuple[list[Step], dict[str, Any]]:
    """Return the steps with rows in the place of tensors of more axes, and the values with them.

    Args:
        layers: name -> packed module.
        steps: the network's.
        output: what the network returns.
        constants: by the names that steps use.
        values: result -> a tensor of its shape and type.
    """
    counts: Counter[str] = Counter()
    _rewritten(layers, steps, constants, values, counts, lambda source: True)
    found, known = _rewritten(
        layers, steps, constants, values, Counter(), lambda source: counts[source] > 1
    )
    return without_unused(found, output), known


def _rewritten(
    layers: Mapping[str, nn.Module],
    steps: Sequence[Step],
    constants: Mapping[str, Tensor],
    values: Mapping[str, Any],
    counts: Counter[str],
    wanted: Callable[[str], bool],
) -> tuple[list[Step], dict[str, Any]]:
    """Return steps and values with rows where they are wanted of what has more axes.

    Args:
        layers, steps, constants, values: as of :func:`as_rows`.
        counts: where to count the linear layers that get rows of the same tensor.
        wanted: whether rows are, of a tensor that a linear layer gets.
    """
    known = dict(values)
    like: dict[str, str] = {}  # of what is there as rows too: what has its other axes
    found: list[Step] = []

    def add(step: Step, name: str, source: str) -> None:
        found.append(step)
        like[name] = source
        known[step.result] = torch.empty(known[name].shape[-1], device="meta").expand(2, -1)

    for step in steps:
        given = step.args[0].name if step.args and isinstance(step.args[0], Ref) else ""
        value = known.get(given)
        many = isinstance(value, Tensor) and value.dim() > 2 and value.dtype == torch.float32
        linear = step.op == "layer" and isinstance(layers.get(step.target), PackedLinear)
        if many and linear:
            counts[like.get(given, given)] += 1
        if many and linear and given not in like and wanted(given):
            add(Step(f"{given} rows", "run", " rows", step.args, {}), given, given)
        if many and given in like and (linear or _is_elementwise(step, constants, known)):
            args = (Ref(f"{given} rows"), *step.args[1:])
            result = replace(step, result=f"{step.result} rows", args=args)
            add(result, step.result, like[given])
            back = (Ref(result.result), Ref(like[given]))
            found.append(Step(step.result, "run", " shaped", back, {}))
        else:
            found.append(step)
    return found, known


def _is_elementwise(step: Step, constants: Mapping[str, Tensor], known: Mapping[str, Any]) -> bool:
    """Return whether a step computes rows as it computes what has more axes."""
    name, result = step.target, known.get(step.result)
    if step.op != "function" or name not in ELEMENTWISE or name in _OF_AXIS_1:
        return False
    if not isinstance(result, Tensor) or result.dtype != torch.float32:
        return False
    others = references((step.args[1:], step.kwargs))
    return all(other in constants and constants[other].dim() < 2 for other in others)
