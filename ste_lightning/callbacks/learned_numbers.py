"""What quantizers learn beside the weights: scales, offsets, clipping levels, thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.convert.structure import clean_name
from ste_lightning.layers import RSign
from ste_lightning.quantizers.n2uq import N2UQ
from ste_lightning.quantizers.quantizer import Quantizer

__all__ = ["learned_numbers", "record_numbers"]

_EACH = 8  # so many values are kept one by one; of more, as per channel, mean and ends


@torch.no_grad()
def learned_numbers(model: nn.Module, scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the present scales and thresholds of a model's quantizers, by qualified name.

    Args:
        model: the model.
        scales: of the weights of each layer, learned or computed.

    Returns:
        ``LAYER.weight_quantizer.scale``; every parameter of a quantizer under its name; for
        ``n2uq`` and ``RSign``, ``thresholds`` in units of the input instead of the parameters
        that make them up.
    """
    found = {f"{name}.weight_quantizer.scale": scale for name, scale in scales.items()}
    for name, module in model.named_modules():
        keys: Iterable[str] = ()
        if isinstance(module, (RSign, N2UQ)):
            found[f"{clean_name(name)}.thresholds"] = module.thresholds()
            keys = getattr(module, "learned_steps", ())
        elif isinstance(module, Quantizer):
            keys = (key for key, _ in module.named_parameters(recurse=False))
        for key in keys:
            found.setdefault(f"{clean_name(name)}.{key}", getattr(module, key))
    return found


def record_numbers(record: dict[str, Any], step: int, numbers: dict[str, Tensor]) -> None:
    """Append numbers to a record: name -> what its values are, and (step, values) of each time.

    Args:
        record: to be added to.
        step: the optimizer step.
        numbers: of :func:`learned_numbers`.
    """
    for name, tensor in numbers.items():
        values = tensor.detach().float().flatten()
        if values.numel() <= _EACH:
            kept, parts = values.tolist(), [str(i + 1) for i in range(values.numel())]
        else:
            kept = [float(part) for part in (values.mean(), *values.aminmax())]
            parts = ["mean", "smallest", "largest"]
        one = record.setdefault(name, {"values": parts, "points": []})
        one["points"].append((step, [float(f"{value:.6g}") for value in kept]))
