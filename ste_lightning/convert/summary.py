"""What a quantized model consists of and costs: bits, sizes, products, memory in training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ste_lightning.convert.costs import Costs, measure
from ste_lightning.convert.structure import clean_name, quantizable_layers
from ste_lightning.convert.summary_table import LayerSummary, Summary
from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.layers import QuantizedLayer
from ste_lightning.quantizers import FLOAT_BITS, bits_of

__all__ = ["summary"]


def summary(model: nn.Module, sample: Any = None) -> Summary:
    """Summarize ``model`` as it is now.

    Args:
        model: any module, quantized or not; it is left as it was.
        sample: an input (a tensor, or a tuple or dict of arguments). With it the model runs
            twice in training mode, quantized and float, to count products (per sample; the
            size of the batch is that of the first tensor's first axis) and saved bytes (of the
            whole batch).

    Returns:
        The rows and totals, see :class:`Summary`.
    """
    rows = _rows(model)
    owners = {part: module for module in rows.values() for part in module.modules()}
    for name, module in model.named_modules():  # what a container computes itself
        if module not in owners:
            owners[module] = module
            rows.setdefault(name, module)
    costs = plain = None
    if sample is not None:
        costs = measure(model, sample, owners)
        plain = _measure_in_float(model, sample, owners)
    counted: set[int] = set()
    made = {part: _computed(part) for part in model.modules()}
    layers = [
        row
        for name, module in rows.items()
        if (row := _row(clean_name(name), module, owners, counted, made, costs, plain)) is not None
    ]
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(t.numel() * t.element_size() for t in tensors)
    return Summary(tuple(layers), size, None if costs is None else costs.samples)


def _rows(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that get a row of their own: quantizable layers, and other leaves."""
    layers = set(quantizable_layers(model).values())
    inside = {part for layer in layers for part in layer.modules()} - layers
    return {
        name: module
        for name, module in model.named_modules()
        if module in layers or (module not in inside and not list(module.children()))
    }


def _measure_in_float(model: nn.Module, sample: Any, owners: dict[nn.Module, nn.Module]) -> Costs:
    """Measure with all quantizers off."""
    layers = [layer for _, layer in named_quantized_layers(model)]
    before = [(layer.weight_quantization, layer.input_quantization) for layer in layers]
    try:
        for layer in layers:
            layer.weight_quantization = layer.input_quantization = False
        return measure(model, sample, owners)
    finally:
        for layer, (weight, inputs) in zip(layers, before, strict=True):
            layer.weight_quantization, layer.input_quantization = weight, inputs


def _row(
    name: str,
    module: nn.Module,
    owners: dict[nn.Module, nn.Module],
    counted: set[int],
    made: dict[nn.Module, _Computed],
    costs: Costs | None,
    plain: Costs | None,
) -> LayerSummary | None:
    """Return the row of ``module``, or ``None`` if it holds and costs nothing."""
    parameters = one = low = deployed = 0
    sources = {id(tensor) for computed in made.values() for tensor in computed.sources}
    for part in module.modules():
        if owners[part] is not module:
            continue
        for key, value in made[part].tensors.items():
            bits = _storage_bits(part, key)
            one += value.numel() if bits == 1 else 0
            low += value.numel() if bits is not None and bits > 1 else 0
            deployed += _deployed(part, value, bits)
        for key, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is None or id(tensor) in counted:
                continue
            counted.add(id(tensor))
            bits = None if id(tensor) in sources else _storage_bits(part, key)
            if isinstance(tensor, nn.Parameter):
                parameters += tensor.numel()
                one += tensor.numel() if bits == 1 else 0
                low += tensor.numel() if bits is not None and bits > 1 else 0
            deployed += 0 if id(tensor) in sources else _deployed(part, tensor, bits)
    weight_bits = bits_of(getattr(module, "weight_quantizer", None))
    input_bits = bits_of(getattr(module, "input_quantizer", None))
    row = LayerSummary(
        name, type(module).__name__, weight_bits, input_bits, parameters, one, low, deployed
    )
    if costs is None or plain is None:
        return row if parameters else None
    row = dataclasses.replace(
        row,  # products per sample, whatever the size of the batch
        macs=round(costs.macs.get(module, 0) / costs.samples),
        score_macs=round(costs.score_macs.get(module, 0) / costs.samples),
        saved_bytes=costs.saved.get(module, 0),
        float_saved_bytes=plain.saved.get(module, 0),
    )
    costly = row.macs or row.score_macs or row.saved_bytes or row.float_saved_bytes
    return row if parameters or costly else None


class _Computed(NamedTuple):
    """What parametrizations and pruning masks compute: packing keeps it as plain tensors.

    Attributes:
        tensors: by name.
        sources: of what they are computed.
    """

    tensors: dict[str, Tensor]
    sources: list[Tensor]


@torch.no_grad()
def _computed(part: nn.Module) -> _Computed:
    """Return the tensors of a module that are computed of others."""
    found = _Computed({}, [])
    if parametrize.is_parametrized(part):
        parametrizations: Any = part.parametrizations
        for key, steps in parametrizations.items():
            mode = steps.training
            steps.eval()  # spectral norm changes its vectors when it is read in training
            found.tensors[key] = getattr(part, key)
            steps.train(mode)
            found.sources.extend([*steps.parameters(), *steps.buffers()])
    for key in (name.removesuffix("_mask") for name in part._buffers if name.endswith("_mask")):
        latent, mask = part._parameters.get(f"{key}_orig"), part._buffers[f"{key}_mask"]
        if latent is not None and mask is not None:
            found.tensors[key] = latent * mask
            found.sources.extend([latent, mask])
    return found


def _storage_bits(part: nn.Module, key: str) -> int | None:
    """Return the whole bits of one stored value, ``None`` for what stays float."""
    if not isinstance(part, QuantizedLayer) or key != part.latent_key:
        return None
    if part.weight_quantizer is None:
        return None
    bits = bits_of(part.weight_quantizer)
    return None if bits >= FLOAT_BITS else math.ceil(bits)


@torch.no_grad()
def _deployed(part: nn.Module, tensor: Tensor, bits: int | None) -> int:
    """Return the bytes of one tensor in the packed model; packed weights with their scales."""
    if bits is None:
        return tensor.numel() * tensor.element_size()
    quantizer = getattr(part, "weight_quantizer", None)
    scales = 0
    integer_levels = getattr(quantizer, "integer_levels", None)
    if integer_levels is not None:
        scale = integer_levels(tensor)[1]
        alike = getattr(quantizer, "group_size", None) or 1  # a scale for each element is returned
        scales = 0 if bool((scale == 1).all()) else scale.numel() // alike * 4
    learned = sum(p.numel() * p.element_size() for p in quantizer.parameters()) if quantizer else 0
    return math.ceil(tensor.numel() * bits / 8) + max(scales - learned, 0)
