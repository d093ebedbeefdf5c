"""Quantizers of weights and inputs of every kind, as the tests of packed layers pair them."""

from __future__ import annotations

from typing import Any

LSQ = {"map": "lsq", "bits": 2, "signed": False}
PAIRS: dict[str, tuple[Any, Any]] = {
    "binary": ("sign", "sign"),
    "scaled x steps": ({"map": "sign", "scale": "channel_mean"}, "step"),
    "ternary x 2 bit": ("twn", LSQ),
    "4 x 8 bit": ({"map": "uniform", "bits": 4}, {"map": "uniform", "bits": 8}),
    "8 x 4 bit": ({"map": "uniform", "bits": 8}, {"map": "lsq", "bits": 4, "signed": True}),
    "tokens": ("bitnet", "token"),
    "weights only": ("sign", None),
}
