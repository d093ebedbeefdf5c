"""Trained networks and what they are packed into, as the tests of packed chains compare them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.deploy.file.save import captured
from ste_lightning.deploy.fusion.bit_chain import Chain
from ste_lightning.deploy.fusion.code_layers import CodedLayer, CodeFlatten, CodePool, Encoder
from ste_lightning.kernels import dispatch
from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantLinear, RPReLU
from ste_lightning.quantizers import LSQ

FUSED = (Chain, CodedLayer, CodeFlatten, CodePool, Encoder)

__all__ = ["both", "calls", "coded", "exact", "in_formats", "noisy", "quantizers"]


def noisy(network: nn.Module) -> nn.Module:
    """Batch norms of both signs, with statistics of data, some channels constant."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.weight.data[::7] = 0.0
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=3.0)
            module.running_var.uniform_(0.5, 9.0)
    return network.eval()


def both(network: nn.Module, x: Tensor, packed: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what the trained and the packed network compute."""
    with torch.no_grad():
        return network(x), packed(x)


def in_formats(network: nn.Module, formats: Sequence[str], x: Tensor) -> Iterator[nn.Module]:
    """Yield the packed network in each format: captured once, then read from its file."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(formats):
            patch.setattr(dispatch, "default_format", lambda name=name: name)
            if index == 0:
                packed = deploy.pack(network)
                both(network, x, packed)
                deploy.save(packed, Path(folder) / "packed")
                yield packed
            else:
                yield deploy.load(Path(folder) / "packed")


def calls(packed: nn.Module) -> list[Any]:
    """What a packed network calls, in its order; it is captured first."""
    captured(packed)
    found = [action.call for action in packed._execution(True).actions]
    return [call if isinstance(call, FUSED) else getattr(call, "__self__", call) for call in found]


def coded(packed: nn.Module) -> int:
    """How many layers return codes."""
    found = [c for c in calls(packed) if isinstance(c, (Chain, CodedLayer))]
    return sum(c._emission is not None for c in found)


def quantizers(weight: str | int, bits: int, signed: bool) -> dict[str, Any]:
    """A layer's quantizers: learned steps, or signs and steps for one bit."""
    inputs: Any = {"map": "lsq", "bits": bits, "signed": signed}
    if bits == 1:
        inputs = "sign" if signed else "step"
    weights: Any = weight if isinstance(weight, str) else {"map": "lsq", "bits": weight}
    return {"weight_quantizer": weights, "input_quantizer": inputs}


def exact(network: nn.Module, seed: int) -> nn.Module:
    """Steps that are powers of two and biases on their grid: then sums of floats are exact."""
    random = np.random.default_rng(seed)
    for module in network.modules():
        if isinstance(module, LSQ):
            module.scale.data = torch.exp2(module.scale.data.log2().floor())
            if module.operand == "activations":
                module.scale.data.fill_(2.0 ** random.integers(-3, 2))
            module.initialized.fill_(1)
        if isinstance(module, (QuantConv1d, QuantConv2d, QuantLinear)) and module.bias is not None:
            module.bias.data = (64 * module.bias.data).round() / 64
    for module in network.modules():
        if isinstance(module, (nn.PReLU, RPReLU)):
            slope = next(p for n, p in module.named_parameters() if "weight" in n or "slope" in n)
            slope.data.uniform_(-0.2 if seed % 2 else 0.0, 0.5)
    return noisy(network)
