"""Networks in files of version 1: layers and the steps that connect them, from symbolic tracing.

They are read into a module, which is captured at its first call like any other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning.deploy.file.graph_schema import decoded
from ste_lightning.deploy.file.schema import (
    build,
    build_input,
    build_packed,
    check_numbers,
    check_tensors,
    integers,
    typed,
)
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.steps import Record, filled, references
from ste_lightning.deploy.layers.attention import PackedAttention
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.layers import RPReLU, RSign

__all__ = ["Version1", "loaded", "rebuild"]

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
_MODULES = """
Linear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d MultiheadAttention BatchNorm1d
BatchNorm2d BatchNorm3d LayerNorm RMSNorm GroupNorm Embedding MaxPool1d MaxPool2d MaxPool3d
AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
AdaptiveMaxPool2d Upsample PixelShuffle ZeroPad2d Flatten ReLU ReLU6 LeakyReLU PReLU Hardtanh Tanh
Sigmoid SiLU GELU ELU Softplus Mish Hardsigmoid Hardswish Softmax LogSoftmax Identity
"""
_FLOAT: dict[str, type[nn.Module]] = {
    **{name: getattr(nn, name) for name in _MODULES.split()},
    "RSign": RSign,
    "RPReLU": RPReLU,
}
_METHODS = """
view reshape flatten permute transpose contiguous squeeze unsqueeze mean sum amax size float chunk
split clamp relu sigmoid tanh softmax abs
"""
_OF_OPERATOR = """
add sub mul truediv floordiv neg getitem
"""
_OF_TORCH = """
matmul flatten cat stack tanh sigmoid mean sum clamp reshape permute transpose squeeze unsqueeze
"""
_OF_FUNCTIONAL = """
scaled_dot_product_attention interpolate pixel_shuffle pad relu relu6 leaky_relu hardtanh silu gelu
softmax log_softmax max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d
adaptive_avg_pool2d
"""


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: getattr(self, name)(*args, **kwargs)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in _OF_OPERATOR.split()},
    **{name: getattr(torch, name) for name in _OF_TORCH.split()},
    **{name: getattr(F, name) for name in _OF_FUNCTIONAL.split()},
    **{f".{name}": _method(name) for name in _METHODS.split()},
    "getattr": lambda a, name: tuple(a.shape) if name == "shape" else a.ndim,
}


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
            for name in references((args, kwargs)):
                if name not in known:
                    raise ConfigurationError(f"step {result!r} uses {name!r} before it is made.")
            require(result not in known, "result", result, "it is made twice")
            known.add(result)
        names = references(output)
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

        def put(value: Any) -> Any:
            return filled(value, lambda ref: results[ref.name], lambda s: slice(*s.values.values()))

        for result, op, target, args, kwargs in self._steps:
            key = target.replace(".", "/")
            call = self.layers[key] if op == "layer" else _FUNCTIONS[target]
            results[result] = call(*put(args), **put(kwargs))
        return put(self._output)


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
        result, op, target, *given = entry
        args, keywords = (decoded(value, _slice) for value in given)
        if not all(isinstance(v, str) for v in (result, op, target)):
            raise ConfigurationError(f"step {result!r} is not named by strings.")
        if not isinstance(args, tuple) or not isinstance(keywords, dict):
            raise ConfigurationError(f"step {result!r} has no sound arguments.")
        steps.append((result, op, target, args, keywords))
    inputs = typed(spec, "inputs", list)
    if not all(isinstance(name, str) for name in inputs):
        raise ConfigurationError("the inputs are not named by strings.")
    output = decoded(spec.get("output"), _slice)
    return Version1(built, steps, inputs, output), typed(spec, "info", dict)


def _slice(kind: str, content: Any) -> Any:
    """Return a slice as a record, which may hold references, or an ellipsis."""
    if kind != "slice" or not isinstance(content, list) or len(content) not in (0, 3):
        return None
    parts = [decoded(item, _slice) for item in content]
    names = ("start", "stop", "step")
    return Record("slice", "", dict(zip(names, parts, strict=True))) if parts else Ellipsis


def _build(name: str, spec: Any) -> nn.Module:
    kind = spec.get("type") if isinstance(spec, dict) else None
    try:
        if kind == "PackedAttention":
            return _build_attention(dict(typed(spec, "settings", dict)))
        if str(kind).startswith("Packed"):
            return build(name, spec)
        if not isinstance(kind, str) or kind not in _FLOAT:
            raise unknown("float layer", kind, _FLOAT)
        settings = typed(spec, "settings", dict)
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return _FLOAT[kind](**plain).eval()
    except ConfigurationError as error:
        raise ConfigurationError(f"layer {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise ConfigurationError(f"layer {name!r} cannot be built: {error}") from error


def _build_attention(settings: dict[str, Any]) -> PackedAttention:
    parts = typed(settings, "projections", dict)
    found = [
        build_packed("PackedLinear", dict(typed(typed(parts, name, dict), "settings", dict)))
        for name in _PROJECTIONS
    ]
    q, k, v, out = (part for part in found if isinstance(part, PackedLinear))
    (heads,) = integers([settings["num_heads"]], 1, 1)
    scores = build_input(settings["scores"])
    return PackedAttention(heads, settings["batch_first"] is True, (q, k, v, out), scores)


def loaded(spec: dict[str, Any], tensors: dict[str, torch.Tensor]) -> PackedNetwork:
    """Return the network of a file.

    Raises:
        ConfigurationError: for tensors that do not fit the description.
    """
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
