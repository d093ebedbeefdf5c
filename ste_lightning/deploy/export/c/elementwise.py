"""Operators that compute number by number: their C expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ste_lightning.deploy.export.c.program import c_float

__all__ = ["BINARY", "UNARY"]

Given = Mapping[str, Any]


def _clamped(v: str, low: Any, high: Any) -> str:
    below = "" if low is None else f"{v} < {c_float(low)} ? {c_float(low)} : "
    above = "" if high is None else f"{v} > {c_float(high)} ? {c_float(high)} : "
    return f"{below}{above}{v}"


def _elu(g: Given) -> str:
    scale, alpha, inner = (c_float(g[key]) for key in ("scale", "alpha", "input_scale"))
    return f"{scale} * (v > 0 ? v : {alpha} * expm1f({inner} * v))"


def _gelu(g: Given) -> str:
    if g["approximate"] == "tanh":
        inner = f"{c_float(math.sqrt(2 / math.pi))} * (v + 0.044715f * v * v * v)"
        return f"0.5f * v * (1 + tanhf({inner}))"
    return f"0.5f * v * (1 + erff(v * {c_float(math.sqrt(0.5))}))"


def _softplus(g: Given) -> str:
    beta, most = c_float(g["beta"]), c_float(g["threshold"])
    return f"v * {beta} > {most} ? v : log1pf(expf(v * {beta})) / {beta}"


UNARY: dict[str, Callable[[Given], str]] = {
    "relu": lambda g: "v < 0 ? 0 : v",
    "relu6": lambda g: _clamped("v", 0, 6),
    "hardtanh": lambda g: _clamped("v", g["min_val"], g["max_val"]),
    "clamp": lambda g: _clamped("v", g["min"], g["max"]),
    "clamp_min": lambda g: _clamped("v", g["min"], None),
    "clamp_max": lambda g: _clamped("v", None, g["max"]),
    "leaky_relu": lambda g: f"v > 0 ? v : {c_float(g['negative_slope'])} * v",
    "sigmoid": lambda g: "1 / (1 + expf(-v))",
    "tanh": lambda g: "tanhf(v)",
    "silu": lambda g: "v / (1 + expf(-v))",
    "gelu": _gelu,
    "elu": _elu,
    "selu": lambda g: "1.05070098f * (v > 0 ? v : 1.67326324f * expm1f(v))",
    "softplus": _softplus,
    "mish": lambda g: "v * tanhf(log1pf(expf(v)))",
    "hardswish": lambda g: "v * (v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6",
    "hardsigmoid": lambda g: "(v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6",
    "abs": lambda g: "fabsf(v)",
    "neg": lambda g: "-v",
    "sign": lambda g: "(float)((v > 0) - (v < 0))",
    "exp": lambda g: "expf(v)",
    "log": lambda g: "logf(v)",
    "sqrt": lambda g: "sqrtf(v)",
    "rsqrt": lambda g: "1 / sqrtf(v)",
    "square": lambda g: "v * v",
    "reciprocal": lambda g: "1 / v",
    "round": lambda g: "rintf(v)",
    "floor": lambda g: "floorf(v)",
    "ceil": lambda g: "ceilf(v)",
}

BINARY: dict[str, Callable[[Given], str]] = {
    "add": lambda g: _with_alpha("+", g),
    "sub": lambda g: _with_alpha("-", g),
    "rsub": lambda g: "w - v" if g["alpha"] == 1 else f"w - {c_float(g['alpha'])} * v",
    "mul": lambda g: "v * w",
    "div": lambda g: "v / w",
    "maximum": lambda g: "v < w ? w : v",
    "minimum": lambda g: "v > w ? w : v",
    "prelu": lambda g: "v > 0 ? v : w * v",
}


def _with_alpha(operator: str, g: Given) -> str:
    return f"v {operator} w" if g["alpha"] == 1 else f"v {operator} {c_float(g['alpha'])} * w"
