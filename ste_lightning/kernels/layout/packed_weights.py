"""Packed weights, ready to be multiplied with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.kernels.layout import integer_codes
from ste_lightning.kernels.layout.int8_weights import (
    fitting,
    steps_in_16_bits,
    stored,
    sums_fit_16_bits,
)
from ste_lightning.kernels.layout.integer_codes import Codes, Coefficients
from ste_lightning.kernels.layout.weight_tiles import (
    LAYOUTS,
    TILED,
    Layout,
    aligned,
    lay_out,
    lay_out_depthwise,
    lay_out_digits,
    lay_out_packed,
    terms_of_depthwise,
)

__all__ = ["Prepared", "prepare"]

_LEAST_TILED, _NEVER = 5, 1 << 40  # rows that share a product by tile registers


@dataclass(frozen=True)
class Prepared:
    """Weights in the layout of a format, with what an epilogue needs.

    Attributes:
        format: ``"lookup"``, ``"bytes"``, ``"words"``, or ``"torch"`` without compiled code.
        inputs, weights: the codes of the two operands.
        groups, outputs, taps, channels: groups; outputs per group; kernel positions; input
            channels per group.
        panels: bytes of all groups, one after the other.
        coefficients: of all groups' outputs.
        padding: (taps, all outputs) float32, to add where a tap lies outside the input.
        scale, shift: per output, applied to the integer product.
        values: the integer weights, only for the format ``"torch"``: float32, or float64 where
            sums need it.
        cache: what convolutions derive for an input size, whatever the weights are.
        pad_code: the code that a padded input would have.
    """

    format: str
    inputs: Codes
    weights: Codes
    groups: int
    outputs: int
    taps: int
    channels: int
    panels: NDArray[np.uint8]
    coefficients: Coefficients
    padding: NDArray[np.float32]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    values: Tensor
    cache: dict[Any, Any] = field(default_factory=dict, compare=False)
    pad_code: float = 0.0

    @functools.cached_property
    def layout(self) -> Layout:
        """The format's layout."""
        return LAYOUTS[self.format]

    @functools.cached_property
    def counts_bits(self) -> bool:
        """Whether compiled code counts bits that differ, of inputs of bits too."""
        return self.format != "torch" and not self.layout.of_products

    @functools.cached_property
    def units(self) -> int:
        """Units of bits of one output."""
        return self.taps * self.layout.units(self.channels)

    @functools.cached_property
    def row_bytes(self) -> int:
        """Bytes of one row (one tap's channels of one group) of packed inputs."""
        return self.layout.units(self.channels) * self.layout.row_unit

    @functools.cached_property
    def input_planes(self) -> int:
        """How many planes of bits (or of digits) a packed input has."""
        return -(-self.inputs.bits // self.layout.input_digit)

    @functools.cached_property
    def weight_planes(self) -> int:
        """How many planes the weights have."""
        return -(-self.weights.bits // self.layout.digit)

    @functools.cached_property
    def block(self) -> int:
        """Units that one pass over a panel may sum; of dot products, the rows that take tiles."""
        if self.layout.by_dot:
            from ste_lightning.kernels.jit.cpu_features import may_use_tiles  # imports numba

            return _LEAST_TILED if self.layout.tiles and may_use_tiles() else _NEVER
        if self.format != "digits":
            return self.layout.block
        return min(self.layout.block, steps_in_16_bits(self.inputs, stored(self.weights)))

    @functools.cached_property
    def in_16_bits(self) -> bool:
        """Whether 16 signed bits hold the sums of products of codes with weights."""
        return sums_fit_16_bits(self.inputs, self.weights, self.taps * self.channels)

    @functools.cached_property
    def terms(self) -> NDArray[np.int16]:
        """The weights of the format ``depthwise`` as numbers, (all outputs, taps x channels)."""
        sizes = (self.groups * self.outputs, self.taps * self.channels)
        return terms_of_depthwise(self.panels, *sizes, self.in_16_bits)

    @functools.cached_property
    def work(self) -> int:
        """Bytes of bit pairs to count for one row and all outputs of a group."""
        planes: int = self.input_planes * self.weight_planes
        return self.units * self.layout.unit * planes * self.outputs

    @functools.cached_property
    def plan(self) -> NDArray[np.int64]:
        """What compiled code is told: see :mod:`.plan`."""
        layout, group = self.layout, len(self.panels) // self.groups
        sizes = (self.groups, self.outputs, self.taps, self.channels, self.row_bytes, self.units)
        entries = (
            *(layout.number, self.input_planes, self.weight_planes, *sizes),
            *(group // self.weight_planes, group),
            *(self.coefficients.slope, self.coefficients.row_slope, not self.inputs.signs),
            *(self.block, layout.digit, layout.panel_bytes(self.units)),
            self.groups * self.outputs,
        )
        return np.array(entries, np.int64)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays that products read beside the plan."""
        return self.panels, self.coefficients.columns, self.scale, self.shift

    @functools.cached_property
    def sites(self) -> dict[Any, Any]:
        """What :mod:`.call_record` derives from these very weights for an input size."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out addresses, a copy's arrays lie elsewhere, and what this process may do."""
        own = ("sites", "plan", "block")
        return {k: v for k, v in self.__dict__.items() if k not in own} | {"cache": {}}


def prepare(
    codes: Tensor,
    inputs: Codes,
    weights: Codes,
    *,
    groups: int = 1,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    pad_value: float | None = None,
    format: str,
) -> Prepared:
    """Lay out weights for a format.

    Args:
        codes: uint8 weight codes, (outputs, taps, channels per group); all groups' outputs one
            after the other.
        inputs: the codes of the inputs that will come.
        weights: what ``codes`` stand for.
        groups: number of groups.
        scale: float factor per output of the integer product; default 1.
        shift: float per output added after the scale; default 0.
        pad_value: what a padded input is worth in the inputs' integers; None: like code 0.
        format: a name of :data:`~ste_lightning.kernels.layout.weight_tiles.LAYOUTS` or ``"torch"``.

    Raises:
        ConfigurationError: for codes that do not fit the bits, and sums beyond 32 bits.
    """
    all_outputs, taps, channels = codes.shape
    require(all_outputs % groups == 0, "groups", groups, f"it must divide {all_outputs} outputs")
    array = codes.contiguous().numpy()
    require(
        array.size == 0 or int(array.max()) < 2**weights.bits,
        "codes",
        int(array.max()) if array.size else 0,
        f"weights of {weights.bits} bits have codes below {2**weights.bits}",
    )
    format = fitting(format, inputs, weights)
    if taps * groups > 1 and format != "torch" and LAYOUTS[format].packed:
        # a convolution reads its weights once for every few rows
        format = TILED["int8"] if LAYOUTS[format].tiles else "int8"
    outputs = all_outputs // groups
    tap_sums = array.sum(axis=2, dtype=np.int64)
    empty = np.empty(0, np.uint8)
    panels, values = empty, torch.empty(0)
    kind, kind_sums, products = weights, tap_sums.sum(axis=1), False
    if format == "torch":
        values = codes.to(_exact(inputs, weights, taps * channels)) * weights.step + weights.offset
    else:
        layout = LAYOUTS[format]
        products = layout.of_products
        if format == "depthwise":
            kind = Codes(weights.bits, 1, 0)
            words = array.astype(np.int16) * np.int16(weights.step) + np.int16(weights.offset)
            kind_sums = words.sum(axis=(1, 2), dtype=np.int64)
            narrow = sums_fit_16_bits(inputs, weights, taps * channels)
            parts = [lay_out_depthwise(words, narrow)]
        elif layout.of_digits:
            as_bytes = stored(weights, int(array.max(initial=0)))
            kind = as_bytes.codes
            array = (array.astype(np.int16) * as_bytes.step + as_bytes.offset).astype(np.int8)
            kind_sums = array.sum(axis=(1, 2), dtype=np.int64)
            parts = [lay_out_digits(part, layout) for part in np.split(array, groups)]
        elif layout.packed:
            as_bytes = stored(weights)
            kind, (step, offset) = as_bytes.codes, (as_bytes.step, as_bytes.offset)
            kind_sums = step * array.sum(axis=(1, 2), dtype=np.int64) + offset * taps * channels
            parts = [lay_out_packed(part, step, offset, layout) for part in np.split(array, groups)]
        else:
            parts = [lay_out(part, weights.bits, layout) for part in np.split(array, groups)]
        panels = _joined(parts)
    correction = np.zeros((taps, all_outputs), np.float32)
    if pad_value is not None and pad_value != inputs.offset:
        tap_values = weights.step * tap_sums + weights.offset * channels
        correction = ((pad_value - inputs.offset) * tap_values.T).astype(np.float32)
    return Prepared(
        format,
        inputs,
        weights,
        groups,
        outputs,
        taps,
        channels,
        panels,
        integer_codes.coefficients(inputs, kind, taps * channels, kind_sums, products),
        correction,
        _floats(scale, all_outputs, 1.0),
        _floats(shift, all_outputs, 0.0),
        values,
        pad_code=0.0 if pad_value is None else (pad_value - inputs.offset) / inputs.step,
    )


def _exact(inputs: Codes, weights: Codes, length: int) -> torch.dtype:
    """Return a float type that holds all sums of products."""
    largest = length
    for codes in (inputs, weights):
        largest *= max(abs(codes.offset), abs(codes.offset + codes.step * (2**codes.bits - 1)))
    return torch.float32 if largest < 1 << 24 else torch.float64


def _joined(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, out=aligned(sum(map(len, parts))))


def _floats(values: Tensor | None, count: int, default: float) -> NDArray[np.float32]:
    if values is None:
        return np.full(count, default, np.float32)
    flat = values.detach().to(torch.float32).flatten()
    return np.ascontiguousarray(flat.expand(count).numpy().copy())
