"""Floats to bits or codes in C, as a packed layer's quantizer makes them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ste_lightning.deploy.export.c.program import Program, Stored
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput

__all__ = ["add_encoder"]


def add_encoder(
    program: Program, quantizer: Input, source: str, x: Stored, rows: bool, form: str, result: str
) -> None:
    """Add what makes codes of floats.

    Args:
        program: to which.
        quantizer: binary or of levels.
        source: the floats.
        x: how the codes are laid out.
        rows: whether a pixel's channels follow each other in the floats.
        form: ``"bits"`` or ``"codes"``.
        result: their name.
    """
    name = program.unique(f"encode_{source}")
    steps = f"{x.channels}, 1" if rows else f"1, {x.pixels}"
    stored = Stored(form, x.height, x.width, x.channels)
    if isinstance(quantizer, BinaryInput):
        kernel, line = _binary(program, quantizer, name, x, steps, form)
    else:
        assert isinstance(quantizer, LevelsInput)
        kernel, line = _levels(program, quantizer, name, x, steps)
    comment = f"{source} as {form}"
    program.add(name, comment, [source], result, stored, line, [kernel])


def _binary(
    program: Program, quantizer: BinaryInput, name: str, x: Stored, steps: str, form: str
) -> tuple[str, str]:
    factor, offset = (_array(v) for v in (quantizer.factor, quantizer.offset))
    if factor is not None and bool((factor == 1).all()):
        factor = None
    if factor is None and offset is not None and not offset.any():
        offset = None
    given = (
        f"{int(quantizer.name == 'step')}, {program.array(f'{name}_factor', factor)}, "
        f"{program.array(f'{name}_offset', offset)}"
    )
    kernel = "floats_to_bits" if form == "bits" else "floats_to_flags"
    return kernel, f"{kernel}(x, {x.pixels}, {x.channels}, {steps}, {given}, y);"


def _levels(
    program: Program, quantizer: LevelsInput, name: str, x: Stored, steps: str
) -> tuple[str, str]:
    table = quantizer.thresholds.float().numpy()
    count = table.shape[1]
    factor = _array(quantizer.factor) if len(table) > 1 else None
    if factor is not None and bool((factor == 1).all()):
        factor = None
    given = (
        f"{program.array(f'{name}_thresholds', table)}, {count}, "
        f"{count if len(table) > 1 else 0}, {program.array(f'{name}_factor', factor)}"
    )
    return "floats_to_codes", f"floats_to_codes(x, {x.pixels}, {x.channels}, {steps}, {given}, y);"


def _array(values: Tensor | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    return None if values is None else values.detach().float().numpy()
