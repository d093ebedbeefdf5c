"""Packed layers of floats in C: float inputs, and tokens that are quantized one by one."""

from __future__ import annotations

from ste_lightning.deploy.export.c.layer_call import LayerCall, worth
from ste_lightning.deploy.export.c.packed_weights import packed_rows
from ste_lightning.deploy.export.c.program import Stored, c_float
from ste_lightning.deploy.layers.input_quantizers import TokenInput

__all__ = ["add_mixed", "add_tokens"]


def add_mixed(call: LayerCall) -> None:
    """Add a layer whose inputs stay float."""
    window, outputs = call.window, call.outputs
    rows, length = packed_rows(call.codes().reshape(outputs, -1), call.bits)
    weights = call.of_group(call.array("weights", rows), rows.shape[1] * window.outputs)
    scale = call.array("scale", call.layer.result_scale())
    bias = call.array("bias", call.layer.bias)
    start, place = "x, pixel", f"y + pixel, {window.positions}"
    if not call.spatial:  # a pixel is a row
        start, place = f"x + pixel * {window.channels}, 0", f"y + pixel * {outputs}, 1"
    kernel = f"mixed_sums_{call.bits}"
    group = call.for_groups(
        f"float_patch(&at, {c_float(call.pad)}, {start}, {call.group}, {length}, patch);\n"
        f"{kernel}({weights}, {worth(call.layer.weight_codes)}, {window.outputs},\n"
        f"    patch, {length}, {call.of_group('sums', window.outputs)});"
    )
    pixel = f"{group}\nscaled_floats(sums, {outputs}, {scale}, {bias}, {place});"
    kernels = ["base", "float_patch", kernel, "scaled_floats"]
    room = [("sums", "float", outputs), ("patch", "float", length)]
    declared = (window if call.spatial else window.one_pixel()).declared()
    call.add(Stored("floats", *window.out, outputs), pixel, kernels, room, declared)


def add_tokens(call: LayerCall) -> None:
    """Add a linear layer whose rows are quantized by their largest number."""
    quantizer, outputs = call.layer.input, call.outputs
    assert isinstance(quantizer, TokenInput)
    assert quantizer.codes is not None
    rows, length = packed_rows(call.codes().reshape(outputs, -1), call.bits)
    weights = call.array("weights", rows)
    scale = call.array("scale", call.layer.result_scale())
    bias = call.array("bias", call.layer.bias)
    most, inputs = -quantizer.codes.offset - 1, call.window.channels
    kernel = f"code_sums_{call.bits}"
    pixel = (
        f"const float worth = token_levels(x + pixel * {inputs}, {inputs}, {most}, "
        f"{c_float(quantizer.smallest)}, {length}, patch);\n"
        f"{kernel}({weights}, {worth(call.layer.weight_codes)}, {outputs}, patch, {length}, "
        f"sums);\n"
        f"tokens_to_floats(sums, {outputs}, {scale}, worth, {bias}, y + pixel * {outputs});"
    )
    kernels = ["token_levels", kernel, "tokens_to_floats"]
    room = [("sums", "int32_t", outputs), ("patch", "int16_t", length)]
    call.add(Stored("floats", *call.window.out, outputs), pixel, kernels, room, "")
