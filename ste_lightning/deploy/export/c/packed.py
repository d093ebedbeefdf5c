"""Packed layers of integers in C: sums, which become floats, bits or codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ste_lightning.deploy.export.c.layer_call import LayerCall, worth
from ste_lightning.deploy.export.c.packed_weights import bit_words, packed_rows, sign_tiles
from ste_lightning.deploy.export.c.program import Stored
from ste_lightning.deploy.fusion.requantize import Emission
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["add_integers", "reads_bits"]


def reads_bits(layer: PackedLayer) -> bool:
    """Return whether a layer's products are those of bits: signs or steps with signs."""
    codes = layer.input.codes
    if codes is None or codes.bits != 1 or layer.groups != 1 or not layer.weight_codes.signs:
        return False
    if codes.step != 1 + codes.signs or codes.offset != -int(codes.signs):
        return False
    return int(layer.pad_level() or 0) in (0, codes.offset, codes.offset + codes.step)


def add_integers(call: LayerCall, x: Stored, emission: Emission | None, form: str) -> None:
    """Add a layer that reads bits or codes.

    Args:
        call: the layer's.
        x: how they are stored.
        emission: how its sums become codes; ``None`` for floats.
        form: ``"bits"`` or ``"codes"``, where they do.
    """
    made = _floats(call) if emission is None else _codes(call, emission, form)
    window = call.window
    if x.kind == "bits":
        _add_bits(call, made)
    elif window.groups > 1 and window.channels == 1 == window.outputs:
        _add_depthwise(call, made)
    else:
        _add_codes(call, made)


@dataclass(frozen=True)
class _Made:
    """What becomes of the sums of one pixel.

    Attributes:
        stored: how the result is stored.
        line: the statement.
        kernel: that it calls.
    """

    stored: Stored
    line: str
    kernel: str


def _floats(call: LayerCall) -> _Made:
    outputs = call.outputs
    scale = call.array("scale", call.layer.result_scale())
    bias = call.array("bias", call.layer.bias)
    place = f"y + pixel, {call.window.positions}" if call.spatial else f"y + pixel * {outputs}, 1"
    line = f"sums_to_floats(sums, {outputs}, {scale}, {bias}, {place});"
    return _Made(Stored("floats", *call.window.out, outputs), line, "sums_to_floats")


def _codes(call: LayerCall, emission: Emission, form: str) -> _Made:
    outputs = call.outputs
    beyond = int(call.layer.largest_sum()) + 1
    least = call.array("least", np.clip(emission.least, -beyond, beyond))
    falls = emission.falling.astype(np.uint8)
    stored = Stored(form, *call.window.out, outputs)
    if form == "bits":
        falling = call.array("falling", bit_words(falls) if falls.any() else None)
        place = f"y + pixel * {-(-outputs // 32)}"
        line = f"sums_to_bits(sums, {outputs}, {least}, {falling}, {place});"
        return _Made(stored, line, "sums_to_bits")
    falling = call.array("falling", falls if falls.any() else None)
    count = len(emission.least)
    line = f"sums_to_codes(sums, {outputs}, {count}, {least}, {falling}, y + pixel * {outputs});"
    return _Made(stored, line, "sums_to_codes")


def _add_bits(call: LayerCall, made: _Made) -> None:
    codes, window = call.layer.input.codes, call.window
    assert codes is not None
    high = codes.offset + codes.step
    row = None
    if window.pads and call.pad != 0:
        row = bit_words(np.full(window.channels, call.pad == high, np.uint8))
    tile = 8 if call.outputs % 32 else 32  # large ones are faster, and would be filled up here
    kernel = f"{'sign' if codes.signs else 'step'}_sums_{tile}"
    weights = call.array("weights", sign_tiles(call.codes_by_tap(), tile))
    pixel = f"{kernel}(&at, {weights}, x, {call.array('pad', row)}, pixel, sums);\n{made.line}"
    kernels = ["base", "ones", kernel, made.kernel]
    call.add(made.stored, pixel, kernels, [("sums", "int32_t", call.outputs)])


def _add_depthwise(call: LayerCall, made: _Made) -> None:
    rows, _ = packed_rows(call.codes_by_tap()[:, :, 0].T, call.bits)
    weights = call.array("weights", rows)
    kernel = f"depthwise_sums_{call.bits}"
    pixel = (
        f"{kernel}(&at, {weights}, {worth(call.layer.weight_codes)}, {rows.shape[1]},\n"
        f"    x, {worth(call.layer.input.codes)}, {int(call.pad)}, pixel, sums);\n{made.line}"
    )
    kernels = ["base", kernel, made.kernel]
    call.add(made.stored, pixel, kernels, [("sums", "int32_t", call.outputs)])


def _add_codes(call: LayerCall, made: _Made) -> None:
    window = call.window
    rows, length = packed_rows(call.codes_by_tap().reshape(call.outputs, -1), call.bits)
    weights = call.of_group(call.array("weights", rows), rows.shape[1] * window.outputs)
    kernel = f"code_sums_{call.bits}"
    group = call.for_groups(
        f"level_patch(&at, {worth(call.layer.input.codes)}, {int(call.pad)}, x, pixel, "
        f"{call.group}, {length}, patch);\n"
        f"{kernel}({weights}, {worth(call.layer.weight_codes)}, {window.outputs},\n"
        f"    patch, {length}, {call.of_group('sums', window.outputs)});"
    )
    kernels = ["base", "level_patch", kernel, made.kernel]
    room = [("sums", "int32_t", call.outputs), ("patch", "int16_t", length)]
    call.add(made.stored, f"{group}\n{made.line}", kernels, room)
