"""Functions as one operator each while a network is captured.

Torch's own shape rules unroll recurrent layers step by step, and take sizes for numbers where a
schema says ``int``: a pooling over a whole image would be one for images of the sample's size.
These know the shapes of the results for any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

__all__ = ["NAMES", "PREFIX", "RECURRENT", "WholeOperators", "result_shapes"]

PREFIX = "ste_lightning::whole_"
RECURRENT = {"lstm": "lstm.input", "gru": "gru.input", "rnn_tanh": "rnn_tanh.input",
             "rnn_relu": "rnn_relu.input"}  # fmt: skip
_RESULTS = {"lstm": 3, "gru": 2, "rnn_tanh": 2, "rnn_relu": 2}


def result_shapes(
    x: Sequence[Any], states: Sequence[Sequence[Any]], bidirectional: bool
) -> list[list[Any]]:
    """Return the shapes of a recurrent layer's results: all outputs, then the last states."""
    width = states[0][-1] * (2 if bidirectional else 1)
    return [[*x[:-1], width], *[list(state) for state in states]]


def _define(name: str, schema: str, compute: Callable[..., Any], fake: Callable[..., Any]) -> None:
    torch.library.define(PREFIX + name, schema)
    torch.library.impl(PREFIX + name, "default", compute)
    torch.library.register_fake(PREFIX + name, fake)


def _define_recurrent(name: str) -> None:
    states = "Tensor[] hx" if name == "lstm" else "Tensor hx"
    returned = ", ".join(["Tensor"] * _RESULTS[name])
    flags = "bool biases, int layers, float dropout, bool train, bool bidirectional, bool first"

    def fake(x: Tensor, hx: Any, params: Any, *flags: Any) -> tuple[Tensor, ...]:
        states = [state.shape for state in (hx if name == "lstm" else [hx])]
        shapes = result_shapes(x.shape, states, flags[4])
        return tuple(x.new_empty(shape) for shape in shapes[: _RESULTS[name]])

    schema = f"(Tensor x, {states}, Tensor[] params, {flags}) -> ({returned})"
    _define(name, schema, getattr(torch, name), fake)


def _define_pool(name: str, dims: int) -> None:
    largest = name.startswith("max")
    last = "SymInt[] dilation, bool ceil_mode" if largest else "bool ceil_mode, bool padded"
    last += ", int? divisor" if not largest and dims > 1 else ""

    def fake(x: Tensor, kernel: Any, stride: Any, padding: Any, *rest: Any) -> Tensor:
        dilation = rest[0] if largest else [1] * dims
        ceil = rest[1] if largest else rest[0]
        sizes = []
        for n, k, s, p, d in zip(x.shape[-dims:], kernel, stride, padding, dilation, strict=True):
            size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
            # The last window begins inside the image or its padding.
            sizes.append(size - 1 if ceil and (size - 1) * s >= n + p else size)
        return x.new_empty([*x.shape[:-dims], *sizes])

    schema = f"(Tensor x, SymInt[] kernel, SymInt[] stride, SymInt[] padding, {last}) -> Tensor"
    function = torch if dims == 1 or largest else torch._C._nn
    _define(name, schema, getattr(function, name), fake)


for _name in RECURRENT:
    _define_recurrent(_name)
_POOLS = {f"{kind}_pool{dims}d": dims for kind in ("avg", "max") for dims in (1, 2, 3)}
for _name, _dims in _POOLS.items():
    _define_pool(_name, _dims)
for _name in ("tril", "triu"):
    _define(_name, "(Tensor x, SymInt diagonal) -> Tensor", getattr(torch, _name),
            lambda x, diagonal: torch.empty_like(x))  # fmt: skip
_define(
    "linspace",
    "(Scalar start, Scalar end, SymInt steps, *, ScalarType? dtype=None) -> Tensor",
    torch.linspace,
    lambda start, end, steps, dtype=None: torch.empty([steps], dtype=dtype),
)
NAMES = {**RECURRENT, **{name: name for name in (*_POOLS, "tril", "triu", "linspace")}}


_READ: dict[str, Callable[[Any], Any]] = {"item": lambda value: value, "__int__": int,
         "__float__": float, "__bool__": bool, "__index__": int}  # fmt: skip


def _linspace(start: Any, end: Any, steps: Any, *, dtype: Any = None, **other: Any) -> Any:
    numbers = not isinstance(start, Tensor) and not isinstance(end, Tensor)
    return ((start, end, steps), {"dtype": dtype}) if numbers else None


def _diagonal(input: Tensor, diagonal: Any = 0) -> Any:
    return (input, diagonal), {}


def _max_pool(
    dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    given = [kernel_size, stride or kernel_size, padding, dilation]
    listed = [_listed(value, dims) for value in given]
    return None if return_indices else ((input, *listed, ceil_mode), {})


def _avg_pool(
    dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
) -> Any:  # fmt: skip
    listed = [_listed(value, dims) for value in (kernel_size, stride or kernel_size, padding)]
    last = (divisor_override,) if dims > 1 else ()
    return (input, *listed, ceil_mode, count_include_pad, *last), {}


def _listed(value: Any, dims: int) -> list[Any]:
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return found * dims if len(found) == 1 else found


class WholeOperators(TorchFunctionMode):
    """Inside, recurrent layers of padded sequences, and functions of sizes, are one operator.

    Args:
        numbers: what parameters and buffers of one number hold, by the identity of the tensors
            that stand for them while a network is captured.
    """

    def __init__(self, numbers: Mapping[int, Any]) -> None:
        super().__init__()
        self._numbers = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, or the operator in its place."""
        plain = getattr(func, "__name__", "")
        if plain in _READ and id(args[0]) in self._numbers:
            return _READ[plain](self._numbers[id(args[0])])
        name = plain.lstrip("_")
        given = _arguments(name, func, args, kwargs or {}) if name in NAMES else None
        if given is None:
            return func(*args, **(kwargs or {}))
        operator = getattr(torch.ops.ste_lightning, f"whole_{name}")
        return operator(*given[0], **given[1])


def _arguments(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the operator's arguments, ``None`` where torch's own function does."""
    if name in RECURRENT:
        if len(args) != 9 or not isinstance(args[3], bool) or func is not getattr(torch, name):
            return None
        x, hx, params, *rest = args
        return (x, list(hx) if name == "lstm" else hx, list(params), *rest), {}
    if not any(isinstance(value, torch.SymInt) for value in tree_leaves((args, kwargs))):
        return None
    if name in _POOLS:
        pool = _max_pool if name.startswith("max") else _avg_pool
        return pool(_POOLS[name], *args, **kwargs)
    return (_linspace if name == "linspace" else _diagonal)(*args, **kwargs)
