"""Networks in files of version 1: layers and the steps that connect them, from symbolic tracing.

They are read into a module, which is captured at its first call like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning.deploy.file.float_layers import build_float
from ste_lightning.deploy.file.schema import (
    build,
    build_input,
    build_packed,
    check_numbers,
    integers,
    typed,
)
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.steps import Ref, references
from ste_lightning.deploy.layers.attention import PackedAttention
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["Version1", "rebuild"]

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def _method(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    return call


_METHODS = (
    *("view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze"),
    *("mean", "sum", "amax", "size", "float", "chunk", "split", "clamp", "relu", "sigmoid"),
    *("tanh", "softmax", "abs"),
)

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b,
    "neg": lambda a: -a,
    "matmul": torch.matmul,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "interpolate": F.interpolate,
    "pixel_shuffle": F.pixel_shuffle,
    "pad": F.pad,
    "getitem": lambda a, i: a[i],
    "getattr": lambda a, name: tuple(a.shape) if name == "shape" else a.ndim,
    "flatten": torch.flatten,
    "cat": torch.cat,
    "stack": torch.stack,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "max_pool1d": F.max_pool1d,
    "max_pool2d": F.max_pool2d,
    "avg_pool1d": F.avg_pool1d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "mean": torch.mean,
    "sum": torch.sum,
    "clamp": torch.clamp,
    "reshape": torch.reshape,
    "permute": torch.permute,
    "transpose": torch.transpose,
    "squeeze": torch.squeeze,
    "unsqueeze": torch.unsqueeze,
    **{f".{name}": _method(name) for name in _METHODS},
}


def _filled(value: Any, results: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return results[value.name]
    if isinstance(value, slice):
        return slice(*(_filled(part, results) for part in (value.start, value.stop, value.step)))
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, results) for item in value)
    return value


class Version1(nn.Module):
    """A network of version 1.

    Args:
        layers: name -> module.
        steps: (result, op, target, args, kwargs), in order.
        inputs: names of the positional inputs.
        output: what is returned.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], steps: list[Any], inputs: list[str], output: Any
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({k.replace(".", "/"): v for k, v in layers.items()})
        self._steps, self._inputs, self._output = steps, inputs, output
        known = set(inputs)
        require(len(known) == len(inputs) > 0, "inputs", inputs, "use distinct names")
        for result, op, target, args, kwargs in steps:
            if op == "layer":
                if target not in layers:
                    raise unknown("layer", target, layers)
            elif op != "function" or target not in _FUNCTIONS:
                raise unknown("function", target, _FUNCTIONS)
            for name in _names((args, kwargs)):
                if name not in known:
                    raise ConfigurationError(f"step {result!r} uses {name!r} before it is made.")
            require(result not in known, "result", result, "it is made twice")
            known.add(result)
        names = _names(output)
        require(bool(names) and known.issuperset(names), "output", output, "name known results")
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        """Return the network's output."""
        if len(inputs) != len(self._inputs):
            raise ConfigurationError(
                f"{len(inputs)} inputs cannot be used: the network takes {len(self._inputs)}: "
                f"{', '.join(self._inputs)}."
            )
        results: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        for result, op, target, args, kwargs in self._steps:
            key = target.replace(".", "/")
            call = self.layers[key] if op == "layer" else _FUNCTIONS[target]
            results[result] = call(*_put(args, results), **_put(kwargs, results))
        return _put(self._output, results)


def _names(value: Any) -> list[str]:
    """Return the names of results, in slices too."""
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _names(item)]
    return references(value)


def _put(value: Any, results: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return results[value.name]
    if isinstance(value, slice):
        return slice(*(_put(part, results) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: _put(item, results) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_put(item, results) for item in value)
    return value


def rebuild(spec: Any) -> tuple[Version1, dict[str, Any]]:
    """Return the network of a description, with values yet to be loaded, and its info.

    Raises:
        ConfigurationError: for anything that version 1 did not write.
    """
    if not isinstance(spec, dict):
        raise ConfigurationError("the architecture is not a mapping.")
    check_numbers(spec)
    built = {str(name): _build(str(name), one) for name, one in typed(spec, "layers", dict).items()}
    steps = []
    for entry in typed(spec, "steps", list):
        if not isinstance(entry, list) or len(entry) != 5:
            raise ConfigurationError("a step is not [result, op, target, args, kwargs].")
        result, op, target, args, kwargs = entry
        decoded, keywords = _decode(args), _decode(kwargs)
        if not all(isinstance(v, str) for v in (result, op, target)):
            raise ConfigurationError(f"step {result!r} is not named by strings.")
        if not isinstance(decoded, tuple) or not isinstance(keywords, dict):
            raise ConfigurationError(f"step {result!r} has no sound arguments.")
        steps.append((result, op, target, decoded, keywords))
    inputs = typed(spec, "inputs", list)
    if not all(isinstance(name, str) for name in inputs):
        raise ConfigurationError("the inputs are not named by strings.")
    output = _decode(spec.get("output"))
    return Version1(built, steps, inputs, output), typed(spec, "info", dict)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "ref" and isinstance(content, str):
            return Ref(content)
        if kind == "tuple" and isinstance(content, list):
            return tuple(_decode(item) for item in content)
        if kind == "slice" and isinstance(content, list) and len(content) in (0, 3):
            return slice(*map(_decode, content)) if content else Ellipsis
        if kind == "dict" and isinstance(content, dict):
            return {key: _decode(item) for key, item in content.items()}
    raise ConfigurationError(f"the argument {value!r} is not known.")


def _build(name: str, spec: Any) -> nn.Module:
    kind = spec.get("type") if isinstance(spec, dict) else None
    try:
        if kind == "PackedAttention":
            return _build_attention(dict(typed(spec, "settings", dict)))
        if str(kind).startswith("Packed"):
            return build(name, spec)
        return build_float(spec if isinstance(spec, dict) else {})
    except ConfigurationError as error:
        raise ConfigurationError(f"layer {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise ConfigurationError(f"layer {name!r} cannot be built: {error}") from error


def _build_attention(settings: dict[str, Any]) -> PackedAttention:
    parts = typed(settings, "projections", dict)
    q, k, v, out = (
        build_packed("PackedLinear", dict(typed(typed(parts, name, dict), "settings", dict)))
        for name in _PROJECTIONS
    )
    assert isinstance(q, PackedLinear)
    assert isinstance(k, PackedLinear)
    assert isinstance(v, PackedLinear)
    assert isinstance(out, PackedLinear)
    (heads,) = integers([settings["num_heads"]], 1, 1)
    scores = build_input(settings["scores"])
    return PackedAttention(heads, settings["batch_first"] is True, (q, k, v, out), scores)


def loaded(spec: dict[str, Any], tensors: dict[str, torch.Tensor]) -> PackedNetwork:
    """Return the network of a file.

    Raises:
        ConfigurationError: for tensors that do not fit the description.
    """
    from ste_lightning.deploy.file.load import check_tensors

    with torch.device("meta"):
        module, info = rebuild(spec)
    wanted = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    found = {
        name: value.float() if name in wanted and wanted[name].dtype == torch.float32 else value
        for name, value in tensors.items()
    }
    check_tensors(wanted, found)
    module.load_state_dict(found, strict=False, assign=True)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:  # batch norm's step counter is not kept
            owner, _, key = name.rpartition(".")
            setattr(module.get_submodule(owner), key, torch.zeros((), dtype=buffer.dtype))
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return PackedNetwork(module, info=info)
