"""Which layers of a packed network are computed together, with bits or codes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ste_lightning.deploy.fusion.bit_chain import Chain, accepts_bits, follows
from ste_lightning.deploy.fusion.code_layers import CodedLayer, CodeFlatten, CodePool, Encoder
from ste_lightning.deploy.fusion.consumers import Readers, readers_of
from ste_lightning.deploy.fusion.float_head import tail_length
from ste_lightning.deploy.fusion.pool_windows import POOLS
from ste_lightning.deploy.fusion.requantize import reads_codes
from ste_lightning.deploy.fusion.shared_inputs import encoded_once
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.deploy.graph.uses import Flow, Part
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["runs_of"]

Source = Chain | CodedLayer | Encoder
Call = Source | CodePool | CodeFlatten


def runs_of(
    layers: Mapping[str, nn.Module], steps: Sequence[Step], output: Any
) -> tuple[tuple[Step, ...], dict[str, Call]]:
    """Join packed layers that only hand bits on to each other, and let others pass codes.

    Args:
        layers: name -> module.
        steps: the network's steps.
        output: what the network returns.

    Returns:
        The steps, with every run in the place of its first layer, and what they call by name.
    """
    steps, called, encoders = encoded_once(steps, Flow(layers, steps, output))
    flow = Flow(layers, steps, output)
    runs: dict[str, Call] = {**called}
    found: list[Step] = []
    inside: set[str] = set()
    sources: dict[str, Source] = {**encoders}  # of the codes that a step gets
    for step in steps:
        if step.result in inside:
            continue
        if step.result in runs:  # between a layer and those that read its codes
            found.append(replace(step, op="run", target=step.result, args=step.args[:1], kwargs={}))
            continue
        parts = _run_from(step, flow)
        last, layer = parts[-1] if parts else (step, flow.module(step))
        readers = readers_of(last, flow)
        tail = [] if readers else _tail_from(last, layer, flow)
        source = sources.get(step.result)
        run = _run(parts, layer, tail, readers, source is not None)
        if run is not None:
            calls = [step, *(part for part, _ in [*parts[1:], *tail])]
            inside |= {part.result for part in calls}
            name = calls[-1].result
            step = replace(step, result=name, op="run", target=name)
            runs[name] = run
            if source is not None:
                source.readers.modules += run.modules
            if readers is not None:
                _prepare(run, readers, runs, sources)
        found.append(step)
    return tuple(found), runs


def _run(
    parts: list[Part],
    last: nn.Module | None,
    tail: list[Part],
    readers: Readers | None,
    coded: bool,
) -> Chain | CodedLayer | None:
    """Return what computes a run, ``None`` where a layer does that as well.

    Args:
        parts: a run of layers between which bits pass, if there is one.
        last: its last layer, or the layer if there is none.
        tail: float layers after it.
        readers: who reads its codes.
        coded: whether it gets codes.
    """
    emission = None if readers is None else readers.emission
    after = [module for _, module in tail]
    if not (len(parts) + len(tail) > 1 or readers or coded):
        return None
    if parts:
        return Chain([module for _, module in parts], after, emission)
    if isinstance(last, PackedLayer) and reads_codes(last):
        return CodedLayer(last, emission, after)
    return None


def _prepare(
    run: Chain | CodedLayer,
    readers: Readers,
    runs: dict[str, Call],
    sources: dict[str, Source],
) -> None:
    """Let all that handles a run's codes know them."""
    for step, module in readers.between:
        flat = type(module) is nn.Flatten
        runs[step.result] = CodeFlatten() if flat else CodePool(module, readers.emission.flips)
        run.readers.modules += runs[step.result].modules
    for step in readers.layers:
        sources[step.result] = run


def _run_from(step: Step, flow: Flow) -> list[Part]:
    """Return the longest run that begins with a step."""
    layer = flow.module(step)
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
            assert isinstance(layer, PackedLayer)
            if not accepts_bits(module) or not isinstance(module, PackedLayer):
                break
            if follows(layer, [part for _, part in between], module) is None:
                break
            run += [*between, found]
            between, layer = [], module
        found = flow.next(at)
    return run


def _tail_from(step: Step, layer: nn.Module | None, flow: Flow) -> list[Part]:
    """Return the float layers after a run that one pass computes; no quantizer may follow."""
    if not isinstance(layer, PackedLayer) or not reads_codes(layer) or flow.quantized_after(step):
        return []
    after: list[Part] = []
    found = flow.next(step)
    while found is not None:
        after.append(found)
        found = flow.next(found[0])
    return after[: tail_length([module for _, module in after], len(layer.shape) - 2)]
