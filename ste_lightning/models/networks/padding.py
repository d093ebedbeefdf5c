"""What convolutions of a network pad with."""

from __future__ import annotations

from typing import Any

from ste_lightning.quantizers import Quantizer, Step, build

__all__ = ["pad_value"]


def pad_value(input_quantizer: Any) -> float:
    """Return 0 where that is a level of the inputs, else the binary value -1."""
    quantizer = build(input_quantizer, "activations")
    binary = isinstance(quantizer, Quantizer) and quantizer.bits == 1
    return -1.0 if binary and not isinstance(quantizer, Step) else 0.0
