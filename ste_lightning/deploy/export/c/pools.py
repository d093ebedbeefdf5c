"""Pooling in C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ste_lightning.deploy.export.c.float_call import FloatCall, listed
from ste_lightning.deploy.export.c.packed_weights import bit_words
from ste_lightning.deploy.export.c.program import Program, Stored
from ste_lightning.deploy.export.c.shapes import Window, pair

__all__ = ["POOLS", "add_code_pool"]


def _window(
    given: Mapping[str, Any], size: Sequence[int], out: Sequence[int], channels: int
) -> Window:
    dims = len(size)
    kernel = listed(given["kernel_size"], dims)
    stride = listed(given["stride"] or kernel, dims)
    return Window(
        pair(size, 1), channels, channels, pair(kernel, 1), pair(stride, 1),
        pair(listed(given["padding"], dims), 0), pair(listed(given.get("dilation", 1), dims), 1),
        pair(out, 1),
    )  # fmt: skip


def _pool(call: FloatCall) -> None:
    """Add a pooling of floats."""
    source = call.source(call.names[0])
    packet, given, made, shape = call.packet, call.given, call.made, call.shape(source)
    if len(shape) != int(packet[-2]) + 2:
        raise call.refuse(f"an input of {len(shape)} axes")
    channels = shape[1]
    kernels = ["base"]
    if packet.startswith("adaptive"):
        kernels = ["adaptive_pool"]
        sizes = ", ".join(map(str, (*pair(shape[2:], 1), *pair(made.shape[2:], 1))))
        body = f"adaptive_pool({channels}, {sizes}, {int('max' in packet)}, x, y);"
    else:
        window = _window(given, shape[2:], made.shape[2:], channels)
        body = window.declared()
        if packet.startswith("max"):
            kernels.append("max_pool")
            body += "max_pool(&at, x, y);"
        else:
            kernels.append("average_pool")
            divisor = given.get("divisor_override") or 0
            body += f"average_pool(&at, {int(given['count_include_pad'])}, {divisor}, x, y);"
    call.add([source], body, kernels)


POOLS = {
    f"{kind}_pool{dims}d": _pool
    for kind in ("max", "avg", "adaptive_avg", "adaptive_max")
    for dims in (1, 2)
}


def add_code_pool(
    program: Program, pool: nn.Module, flips: NDArray[np.uint8], source: str, result: str,
    size: Sequence[int],
) -> None:  # fmt: skip
    """Add a max pooling of bits or codes.

    Args:
        program: to which.
        pool: the pooling.
        flips: per channel 255 where the largest number has the smallest code.
        source, result: names.
        size: of the result.
    """
    x = program.stored[source]
    image = (x.height, x.width)[-len(size) :]
    settings = {key: getattr(pool, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    window = _window(settings, image, size, x.channels)
    name = program.unique(result)
    turned = bit_words((flips > 0).astype(np.uint8)) if x.kind == "bits" else flips
    array = program.array(f"{name}_flips", turned if flips.any() else None)
    kernel = f"pool_{x.kind}"
    body = f"{window.declared()}{kernel}(&at, x, {array}, y);"
    stored = Stored(x.kind, *window.out, x.channels)
    comment = f"max pooling of {x.kind}: {x.channels} channels, {window.positions} pixels"
    program.add(name, comment, [source], result, stored, body, ["base", kernel])
