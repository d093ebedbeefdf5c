"""Rows of whole networks."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
from packed_peers import onnx_calls
from packed_timing import FLOAT, OURS, Call, Table
from torch import nn

from ste_lightning import deploy
from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks import ConvNet

Inner = Callable[[int, int], list[nn.Module]]


def _cnn(width: int, inner: Inner, head: list[nn.Module]) -> nn.Sequential:
    """Return a CNN for 32x32x3 images; float first and last layer.

    Args:
        width: channels of its first convolution.
        inner: what follows a batch norm, given its channels and the next convolution's.
        head: what follows the last batch norm.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    before = width
    for index, after in enumerate((width, 2 * width, 2 * width, 4 * width, 4 * width)):
        layers += [nn.BatchNorm2d(before), *inner(before, after)]
        if index % 2 == 0:
            layers.append(nn.MaxPool2d(2))
        before = after
    layers += [nn.BatchNorm2d(before), *head, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(before, 10))


def _plain(before: int, after: int) -> list[nn.Module]:
    return [nn.ReLU(), nn.Conv2d(before, after, 3, padding=1, bias=False)]


def network(width: int = 128, quantized: bool = True) -> nn.Sequential:
    """Return the binary CNN, or its float twin."""

    def binary(before: int, after: int) -> list[nn.Module]:
        return [QuantConv2d(before, after, 3, padding=1, bias=False, pad_value=-1.0)]

    return _cnn(width, binary if quantized else _plain, []).eval()


def network_rows(table: Table) -> None:
    """Time the networks, and print the size of the larger one."""
    packed, plain = deploy.pack(network()), network(quantized=False)
    for rows in (1, 64):
        name = f"BNN CNN 32x32x3, batch {rows}"
        if not table.wants(name):
            continue
        x = torch.randn(rows, 3, 32, 32)
        calls: dict[str, Call] = {
            OURS: lambda x=x: packed(x),
            f"{FLOAT} torch": lambda x=x: plain(x),
            **onnx_calls(plain, x),
        }
        products = (
            128 * 128 * 1024 + 128 * 256 * 256 + 256 * 256 * 256 + 256 * 512 * 64 + 512**2 * 64
        )
        table.row(name, 2 * 9 * products * rows, calls)
    _small(table)
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    stored = sum(t.numel() * t.element_size() for t in packed.state_dict().values())
    print(f"\nThe CNN's tensors: {len(buffer.getvalue()):,} bytes float32, {stored:,} packed.")


def _small(table: Table) -> None:
    name = "CNN of the recipe digits_cnn, batch 1"
    if not table.wants(name):
        return
    small, twin = ConvNet().eval(), ConvNet(weight_quantizer=None, input_quantizer=None).eval()
    packed, x = deploy.pack(small), torch.randn(1, 1, 8, 8)
    calls: dict[str, Call] = {
        OURS: lambda: packed(x),
        f"{FLOAT} torch": lambda: twin(x),
        **onnx_calls(twin, x),
    }
    table.row(name, 2 * 9 * 32 * 64 * 64, calls)


def low_bit_network(bits: int, width: int = 64, quantized: bool = True) -> nn.Sequential:
    """Return a CNN with weights and inputs of several bits, steps set, or its float twin."""
    spec = {"map": "lsq", "bits": bits}
    quantizers = {"weight_quantizer": spec, "input_quantizer": {**spec, "signed": False}}

    def low_bit(before: int, after: int) -> list[nn.Module]:
        return [nn.ReLU(), QuantConv2d(before, after, 3, padding=1, bias=False, **quantizers)]

    found = _cnn(width, low_bit if quantized else _plain, [nn.ReLU()])
    found(torch.randn(32, 3, 32, 32))
    return found.eval()


def code_rows(table: Table) -> None:
    """Time networks between whose layers codes of several bits pass."""
    products = 64 * 64 * 1024 + 64 * 128 * 256 + 128 * 128 * 256 + 128 * 256 * 64 + 256**2 * 64
    for bits in (2, 4):
        network, plain = low_bit_network(bits), low_bit_network(bits, quantized=False)
        packed, apart = deploy.pack(network), deploy.pack(network, fold=False)
        for rows in (1, 16):
            name = f"W{bits}A{bits} CNN 32x32x3, codes, batch {rows}"
            if not table.wants(name):
                continue
            x = torch.randn(rows, 3, 32, 32)
            calls: dict[str, Call] = {
                OURS: lambda x=x, packed=packed: packed(x),
                "floats between layers": lambda x=x, apart=apart: apart(x),
                f"{FLOAT} torch": lambda x=x, plain=plain: plain(x),
                **onnx_calls(plain, x),
            }
            table.row(name, 2 * 9 * products * rows, calls)
