"""Which packed layers of a graph are computed together, with bits or codes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ste_lightning.deploy.fusion.bit_chain import Chain, accepts_bits, follows
from ste_lightning.deploy.fusion.code_layers import CodedLayer, CodeFlatten, CodePool, Encoder
from ste_lightning.deploy.fusion.consumers import Readers, readers_of
from ste_lightning.deploy.fusion.float_head import HeadPart, head_length, head_part
from ste_lightning.deploy.fusion.fold import fold_thresholds
from ste_lightning.deploy.fusion.pool_windows import POOLS
from ste_lightning.deploy.fusion.requantize import reads_codes
from ste_lightning.deploy.fusion.rows import ROWS, as_rows
from ste_lightning.deploy.fusion.shared_inputs import encoded_once
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow, Part
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["fused"]

Call = Chain | CodedLayer | Encoder | CodePool | CodeFlatten


def fused(
    layers: Mapping[str, nn.Module],
    steps: Sequence[Step],
    output: Any,
    constants: Mapping[str, Tensor],
    values: Mapping[str, Any],
    fold: bool,
) -> tuple[list[Step], dict[str, Any]]:
    """Return what computes the same in fewer and faster steps.

    Args:
        layers: name -> packed module, on the CPU.
        steps: the network's, without any that change their arguments.
        output: what the network returns.
        constants: by the names that steps use.
        values: result -> a tensor of its shape and type.
        fold: whether what lies between packed layers becomes thresholds.

    Returns:
        The steps, and what those call that are layers or runs.
    """
    calls: dict[str, Any] = dict(layers)
    kept, values = as_rows(layers, steps, output, constants, values)
    if fold:
        calls, kept = fold_thresholds(calls, kept, output, constants, values)
    flow = Flow(calls, kept, output, constants, values)
    kept, runs, coded = encoded_once(kept, flow)
    known = {**values, **{name: values[name.removesuffix(" quantized")] for name in runs}}
    flow = Flow(calls, kept, output, constants, known)
    found: list[Step] = []
    inside: set[str] = set()
    for step in kept:
        if step.result in inside:
            continue
        if step.result in runs:  # between a layer and those that read its codes
            found.append(replace(step, op="run", target=step.result, args=step.args[:1], kwargs={}))
            continue
        parts = _run_from(step, flow)
        last, layer = parts[-1] if parts else (step, flow.layer(step))
        readers = readers_of(last, flow)
        head = [] if readers else _head_from(last, layer, flow)
        run = _run(parts, layer, [part for _, part in head], readers, step.result in coded)
        if run is not None:
            members = [step, *(part for part, _ in parts[1:]), *(part for part, _ in head)]
            inside |= {part.result for part in members}
            name = members[-1].result
            step = replace(step, result=name, op="run", target=name)
            runs[name] = run
            if readers is not None:
                coded |= {reader.result for reader in readers.layers}
                for part, module in readers.between:
                    flat = type(module) is nn.Flatten
                    flips = readers.emission.flips
                    runs[part.result] = CodeFlatten() if flat else CodePool(module, flips)
        found.append(step)
    return found, {**calls, **runs, **ROWS}


def _run(
    parts: list[Part],
    last: PackedLayer | None,
    head: list[HeadPart],
    readers: Readers | None,
    coded: bool,
) -> Chain | CodedLayer | None:
    """Return what computes a run, ``None`` where a layer does that as well.

    Args:
        parts: a run of layers between which bits pass, if there is one.
        last: its last layer, or the layer if there is none.
        head: float steps after it.
        readers: who reads its codes.
        coded: whether it gets codes.
    """
    emission = None if readers is None else readers.emission
    if not (len(parts) + len(head) > 1 or readers or coded):
        return None
    if parts:
        return Chain([module for _, module in parts], head, emission)
    if last is not None and reads_codes(last):
        return CodedLayer(last, emission, head)
    return None


def _run_from(step: Step, flow: Flow) -> list[Part]:
    """Return the longest run that begins with a step."""
    layer = flow.layer(step)
    if layer is None or not accepts_bits(layer):
        return []
    run: list[Part] = [(step, layer)]
    between: list[Part] = []
    found = flow.next(step)
    while found is not None:
        at, module = found
        if type(module) in (*POOLS, nn.Flatten):
            between.append(found)
        else:
            if not isinstance(module, PackedLayer) or not accepts_bits(module):
                break
            if follows(layer, [part for _, part in between], module) is None:
                break
            run += [*between, found]
            between, layer = [], module
        found = flow.next(at)
    return run


def _head_from(step: Step, layer: PackedLayer | None, flow: Flow) -> list[tuple[Step, HeadPart]]:
    """Return the float steps after a run that one pass computes; no quantizer may follow."""
    if layer is None or not reads_codes(layer) or flow.quantized_after(step):
        return []
    found: list[tuple[Step, HeadPart]] = []
    user = flow.following(step)
    while user is not None:
        part = head_part(user, flow, len(layer.shape) - 2)
        if part is None:
            break
        found.append((user, part))
        user = flow.following(user)
    return found[: head_length([part for _, part in found], len(layer.shape) - 2)]
