"""What a page tells of a trained network: layers, backward rules, wrong predictions, returns."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from ste_lightning.callbacks import QuantizationAwareTraining, QuantizationMonitor
from ste_lightning.convert import summary
from ste_lightning.convert.structure import clean_name, find_module
from ste_lightning.functional import Surrogate
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.quantizers.specification import summarize

__all__ = ["facts_of_network"]

Facts = dict[str, Any]

_TESTED, _SHOWN = 2000, 24  # test samples looked at, and how many wrong ones are kept
_TRACES = 6
_RANGE = 2.0


def facts_of_network(
    model: L.LightningModule, data: Any, callbacks: Iterable[L.Callback], samples: Tensor | None
) -> Facts:
    """Return plain data on a trained network, for JSON.

    Args:
        model: with the weights to tell about.
        data: its data module, set up for testing.
        callbacks: of its training.
        samples: a few inputs; None where a batch is something else than one tensor.
    """
    facts: Facts = {}
    if isinstance(model, BinaryTwoLayer):
        facts |= _two_layer(model)
    else:
        facts |= _layers(model, callbacks, None if samples is None else samples[:1])
        facts["rules"] = _rules(model)
        if samples is not None:
            facts |= _wrong(model, data)
    for callback in callbacks:
        if isinstance(callback, QuantizationMonitor):
            facts |= {"histograms": callback.histograms, "learned": callback.learned}
    return facts


def _layers(
    model: L.LightningModule, callbacks: Iterable[L.Callback], sample: Tensor | None
) -> Facts:
    told = summary(model, sample)
    reports = [c.report for c in callbacks if isinstance(c, QuantizationAwareTraining)]
    found = {row.name: row for report in reports if report is not None for row in report.layers}
    layers = []
    for row in told.layers:
        if not (row.parameters or row.macs):
            continue
        module, was = find_module(model, row.name), found.get(row.name)
        layers.append(
            {
                "name": row.name,
                "type": row.kind
                if was is None or was.kind in row.kind
                else f"{was.kind} to {row.kind}",
                "weights": summarize(getattr(module, "weight_quantizer", None)),
                "inputs": summarize(getattr(module, "input_quantizer", None)),
                "products": row.arithmetic,
                "parameters": row.parameters,
                "bytes": row.deployed_bytes,
                "macs": row.macs,
                "why": was.reason if was is not None else _built(row.arithmetic),
            }
        )
    return {
        "layers": layers,
        "notes": [note for report in reports if report is not None for note in report.notes],
        "deployed_bytes": told.deployed_bytes,
        "float_bytes": told.float_bytes,
        "macs": told.macs,
    }


def _built(arithmetic: str) -> str:
    return "float in the network's own code" if arithmetic == "float" else "built with quantizers"


def _rules(model: nn.Module) -> list[Facts]:
    """Return every backward rule of the network once, with the layers that use it."""
    used: dict[tuple[str, Surrogate, str], dict[str, None]] = {}
    for name, module in model.named_modules():
        for operand in ("weight", "input"):
            quantizer = getattr(module, f"{operand}_quantizer", None)
            rule = getattr(quantizer, "rule", None)
            if isinstance(rule, Surrogate):
                key = (str(getattr(quantizer, "map_name", "")), rule, operand)
                used.setdefault(key, {})[clean_name(name)] = None  # once, if compiled
    return [
        {"map": name, "operand": operand, "layers": list(layers), **_rule(rule, name)}
        for (name, rule, operand), layers in used.items()
    ]


@torch.no_grad()
def _rule(rule: Surrogate, map_name: str) -> Facts:
    x = torch.linspace(-_RANGE, _RANGE, 81, dtype=torch.float64)
    forward = (x > 0).double() if map_name == "step" else torch.where(x >= 0, 1.0, -1.0)
    curves = {"derivative f'": rule.derivative(x), "pretended function f": rule.virtual(x)}
    if map_name in ("sign", "step"):  # others depend on bits and scales
        curves = {f"forward {map_name}": forward.to(x), **curves}
    return {
        "rule": rule.name,
        "parameters": {k: float(v) for k, v in rule.parameters().items() if _is_plain(v)},
        "equation": rule.equation,
        "source": rule.paper,
        "curves": {
            name: torch.stack([x, y], 1).mul(1e4).round().div(1e4).tolist()
            for name, y in curves.items()
        },
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)


@torch.no_grad()
def _wrong(model: L.LightningModule, data: Any) -> Facts:
    """Return how many of the first test samples are told wrongly, which, and some pictures."""
    training = model.training
    model.eval()
    names = _class_names(data)
    wrong: list[Facts] = []
    pairs: dict[tuple[int, int], int] = {}
    seen = mistakes = 0
    try:
        for batch in data.test_dataloader():
            x, y = (part.to(model.device) for part in batch)
            logits = model(x)
            if y.is_floating_point() or logits.dim() != 2 or y.shape != logits.shape[:1]:
                return {}
            predicted = logits.argmax(1)
            shares = logits.softmax(1).amax(1)
            for index in (predicted != y).nonzero()[:, 0].tolist():
                mistakes += 1
                pair = (int(y[index]), int(predicted[index]))
                pairs[pair] = pairs.get(pair, 0) + 1
                if len(wrong) < _SHOWN and x.dim() == 4 and x.shape[1] in (1, 3):
                    said = f"{_name(names, pair[1])} ({float(shares[index]):.0%})"
                    text = f"{said}, is {_name(names, pair[0])}"
                    wrong.append({"png": _png(x[index]), "text": text, "width": x.shape[-1]})
            seen += len(y)
            if seen >= _TESTED:
                break
    finally:
        model.train(training)
    common = sorted(pairs.items(), key=lambda item: -item[1])[:10]
    confused = [[_name(names, a), _name(names, b), count] for (a, b), count in common]
    return {"pictures": wrong, "tested": seen, "mistakes": mistakes, "confused": confused}


def _class_names(data: Any) -> list[str]:
    names = getattr(data, "class_names", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def _name(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _png(x: Tensor) -> str:
    """Return an input as a picture, from its smallest value (black) to its largest (white)."""
    from PIL import Image

    x = x.float().cpu()
    low, high = float(x.min()), float(x.max())
    pixels: Any = ((x - low) / ((high - low) or 1) * 255).round().to(torch.uint8).numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    if max(image.size) > 96:
        image.thumbnail((96, 96))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _two_layer(model: BinaryTwoLayer) -> Facts:
    result = model.result()
    trace = result["hamming_trace"]
    histogram = result["return_times"].sum(0).tolist()
    while histogram and not histogram[-1]:
        histogram.pop()
    return {
        "wrong_signs": trace[:, :_TRACES].T.tolist() if trace.dim() == 2 else [],
        "fractions": [round(value, 4) for value in result["fraction_at_teacher"].tolist()],
        "return_times": histogram,
        "rules": [{"map": "step", "operand": "hidden unit", "layers": ["first"],
                   **_rule(model.rule, "step")}],
    }  # fmt: skip
