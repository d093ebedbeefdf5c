"""Rows of single layers: binary products and convolutions, products of several bits, depthwise."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from packed_peers import int_mm, larq_calls, onnx_calls
from packed_timing import FLOAT, OURS, Call, Table
from torch import nn

from ste_lightning import kernels
from ste_lightning.kernels import SIGNS, Codes, Geometry


def linear_rows(table: Table) -> None:
    for size in (1024, 4096):
        layer = nn.Linear(size, size, bias=False)
        codes = torch.randint(0, 2, (size, 1, size), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        for rows in (1, 16, 256):
            name = f"linear {size}, batch {rows}"
            if not table.wants(name):
                continue
            x = torch.randn(rows, size)
            calls: dict[str, Call] = {
                OURS: lambda x=x, w=w: kernels.linear(x, w),
                f"{FLOAT} torch": lambda x=x, layer=layer: F.linear(x, layer.weight),
                **onnx_calls(layer, x),
                **(int_mm(x, size) if rows > 16 and size == 1024 else {}),
                **larq_calls(x.T[None, :, :, None], codes),
            }
            table.row(name, 2 * rows * size**2, calls)


def conv_rows(table: Table) -> None:
    for pixels, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        name = f"conv 3x3 {pixels}x{pixels}x{channels}"
        if not table.wants(name):
            continue
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        codes = torch.randint(0, 2, (channels, 9, channels), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        geometry = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        x = torch.randn(1, channels, pixels, pixels)
        calls: dict[str, Call] = {
            OURS: lambda x=x, w=w, g=geometry: kernels.convolve(x, w, g),
            f"{FLOAT} torch": lambda x=x, layer=layer: F.conv2d(x, layer.weight, padding=1),
            **onnx_calls(layer, x),
            **larq_calls(x, codes),
        }
        table.row(name, 2 * 9 * channels**2 * pixels**2, calls)


def between_rows(table: Table) -> None:
    if kernels.default_format() == "torch":
        return
    from ste_lightning.kernels.gemm.bit_calls import Relay, bits_of, pack_images
    from ste_lightning.kernels.layout.call_record import bit_site, float_site

    for pixels, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        name = f"conv 3x3 {pixels}x{pixels}x{channels}, bits in, bits out"
        if not table.wants(name):
            continue
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        codes = torch.randint(0, 2, (channels, 9, channels), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        geometry, size = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), (pixels, pixels)
        site = bit_site(w, geometry, size, np.zeros(channels, np.int64))
        window = np.arange(pixels**2)[:, None] * site.pitch
        none = np.zeros(site.pitch, np.uint8)
        relay = Relay(float_site(w, geometry, size), window, none, none)
        x = torch.randn(1, channels, pixels, pixels)
        packed = pack_images(x, site)
        calls: dict[str, Call] = {
            OURS: lambda p=packed, s=site, r=relay: r(bits_of(s, p)),
            f"{FLOAT} torch": lambda x=x, layer=layer: F.conv2d(x, layer.weight, padding=1),
            **onnx_calls(layer, x),
        }
        table.row(name, 2 * 9 * channels**2 * pixels**2, calls)


def bit_rows(table: Table) -> None:
    for bits, rows in ((2, 16), (4, 16), (8, 16), (4, 256), (8, 256)):
        name, size = f"W{bits}A{bits} linear 4096, batch {rows}", 4096
        if not table.wants(name):
            continue
        layer = nn.Linear(size, size, bias=False)
        kind = Codes(bits, 1, -(2 ** (bits - 1)))
        codes = torch.randint(0, 2**bits, (size, 1, size), dtype=torch.uint8)
        best = kernels.best_format(kind, kind, rows=rows)
        w = kernels.prepare(codes, kind, kind, format=best)
        x = torch.randn(rows, size)
        half = 2 ** (bits - 1)
        thresholds = (torch.arange(1 - half, half) / half).view(1, -1) * 2

        def ours(x=x, w=w, thresholds=thresholds):  # type: ignore[no-untyped-def]
            return kernels.linear(kernels.levels(x, thresholds), w)

        calls: dict[str, Call] = {
            OURS: ours,
            f"{FLOAT} torch": lambda x=x, layer=layer: F.linear(x, layer.weight),
            **onnx_calls(layer, x),
        }
        table.row(name, 2 * rows * size**2, calls)


def token_rows(table: Table) -> None:
    """Weights of few bits times 8-bit codes, as language models have them."""
    size, inputs = 2048, Codes(8, 1, -128)
    layer = nn.Linear(size, size, bias=False)
    for name, weights in (("ternary", Codes(2, 1, -1)), ("4 bits", Codes(4, 1, -8))):
        codes = torch.randint(0, 3, (size, 1, size), dtype=torch.uint8)
        w = kernels.prepare(codes, inputs, weights, format=kernels.best_format(inputs, weights))
        for rows in (1, 32, 128):
            title = f"{name} x 8 bits, linear {size}, batch {rows}"
            if not table.wants(title):
                continue
            x = torch.randint(0, 256, (rows, size), dtype=torch.uint8)
            floats = torch.randn(rows, size)
            calls: dict[str, Call] = {
                OURS: lambda x=x, w=w: kernels.linear(x, w),
                f"{FLOAT} torch": lambda x=floats, layer=layer: F.linear(x, layer.weight),
            }
            table.row(title, 2 * rows * size**2, calls)


def weight_only_rows(table: Table) -> None:
    """Float inputs, weights decoded in the kernel."""
    from ste_lightning.kernels.gemm.float_rows import multiply_floats, prepare_for_floats

    size = 4096
    layer, ones = nn.Linear(size, size, bias=False), torch.ones(size)
    for name, weights in (("ternary", Codes(2, 1, -1)), ("4 bits", Codes(4, 1, -8))):
        codes = torch.randint(0, 3, (size, size), dtype=torch.uint8)
        w = prepare_for_floats(codes, weights, ones, torch.zeros(size))
        for rows in (1, 16):
            title = f"weight-only {name}, linear {size}, batch {rows}"
            if not table.wants(title):
                continue
            x = torch.randn(rows, size)
            calls: dict[str, Call] = {
                OURS: lambda x=x, w=w: multiply_floats(x, w),
                f"{FLOAT} torch": lambda x=x, layer=layer: F.linear(x, layer.weight),
            }
            table.row(title, 2 * rows * size**2, calls)


def depthwise_rows(table: Table) -> None:
    for pixels, channels in ((56, 128), (14, 512)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=channels)
        geometry = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, channels, pixels, pixels).contiguous(memory_format=layout)
            twin = copy.deepcopy(layer).to(memory_format=layout)
            others = {
                f"{FLOAT} torch": lambda x=x, twin=twin: twin(x),
                **(onnx_calls(layer, x) if layout is torch.contiguous_format else {}),
            }
            place = "first" if layout is torch.contiguous_format else "last"
            for bits in (1, 4, 8):
                name = (
                    f"W{bits}A{bits} depthwise 3x3 {pixels}x{pixels}x{channels}, channels {place}"
                )
                if not table.wants(name):
                    continue
                kind = SIGNS if bits == 1 else Codes(bits, 1, -(2 ** (bits - 1)))
                codes = torch.randint(0, 2**bits, (channels, 9, 1), dtype=torch.uint8)
                best = kernels.best_format(kind, kind, channels, 1, 1)
                w = kernels.prepare(codes, kind, kind, groups=channels, format=best)
                thresholds = torch.linspace(-2, 2, 2**bits - 1).view(1, -1)

                def ours(x=x, w=w, thresholds=thresholds, g=geometry):  # type: ignore[no-untyped-def]
                    codes = x if w.inputs.bits == 1 else kernels.levels(x, thresholds, axis=1)
                    return kernels.convolve(codes, w, g)

                calls: dict[str, Call] = {OURS: ours, **others}
                table.row(name, 2 * 9 * channels * pixels**2, calls)
