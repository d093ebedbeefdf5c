"""Packed networks as plain data: layers and steps to JSON and back."""

from __future__ import annotations

from typing import Any

from torch import nn

from ste_lightning.deploy.file.float_layers import build_float, describe_float
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.layers.attention import PackedAttention
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import (
    BinaryInput,
    FloatInput,
    Input,
    LevelsInput,
    TokenInput,
)
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.transposed import PackedConvTranspose
from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.kernels import Codes, Geometry

__all__ = ["describe", "rebuild"]

_PACKED = ("PackedLinear", "PackedConv", "PackedConvTranspose", "PackedEmbedding")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
_MOST = 1 << 31  # larger numbers in an architecture are nonsense
_LARGEST_PADDING = 1 << 12


def describe(network: PackedNetwork) -> dict[str, Any]:
    """Return the plain description of a packed network, without its tensors.

    Raises:
        ConfigurationError: for a layer that is not known.
    """
    return {
        "layers": {name: _layer_spec(network.layer(name)) for name in network.layer_names()},
        "steps": [
            [step.result, step.op, step.target, _encode(step.args), _encode(step.kwargs)]
            for step in network.steps
        ],
        "inputs": list(network.inputs),
        "output": _encode(network.output),
        "info": network.info,
    }


def rebuild(spec: Any) -> PackedNetwork:
    """Return the network that :func:`describe` described, with values yet to be loaded.

    Raises:
        ConfigurationError: for anything that :func:`describe` would not write.
    """
    if not isinstance(spec, dict):
        raise ConfigurationError("the architecture is not a mapping.")
    _check_numbers(spec)
    layers = _typed(spec, "layers", dict)
    built = {str(name): _build(str(name), layer) for name, layer in layers.items()}
    steps = []
    for entry in _typed(spec, "steps", list):
        if not isinstance(entry, list) or len(entry) != 5:
            raise ConfigurationError("a step is not [result, op, target, args, kwargs].")
        result, op, target, args, kwargs = entry
        decoded, keywords = _decode(args), _decode(kwargs)
        if not all(isinstance(v, str) for v in (result, op, target)):
            raise ConfigurationError(f"step {result!r} is not named by strings.")
        if not isinstance(decoded, tuple) or not isinstance(keywords, dict):
            raise ConfigurationError(f"step {result!r} has no sound arguments.")
        steps.append(Step(result, op, target, decoded, keywords))
    inputs = _typed(spec, "inputs", list)
    if not all(isinstance(name, str) for name in inputs):
        raise ConfigurationError("the inputs are not named by strings.")
    return PackedNetwork(
        built, steps, inputs, _decode(spec.get("output")), _typed(spec, "info", dict)
    )


def _typed(spec: dict[str, Any], key: str, kind: type) -> Any:
    value = spec.get(key)
    if not isinstance(value, kind):
        raise ConfigurationError(f"the architecture's {key!r} is not a {kind.__name__}.")
    return value


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, (int, float)) and not abs(value) <= _MOST:  # nor not a number
        raise ConfigurationError(f"the architecture holds the number {value}.")


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if value is Ellipsis:
        return {"slice": []}
    if isinstance(value, slice):
        return {"slice": [_encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _encode(item) for key, item in value.items()}}
    return value


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


def _layer_spec(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, PackedAttention):
        parts = {name: _layer_spec(getattr(layer, name)) for name in _PROJECTIONS}
        scores = layer.scores.spec()
        shape = {"num_heads": layer.num_heads, "batch_first": layer.batch_first}
        settings: dict[str, Any] = {**shape, "scores": scores, "projections": parts}
        return {"type": "PackedAttention", "settings": settings}
    if not isinstance(layer, PackedLayer):
        return describe_float(layer)
    codes = layer.weight_codes
    settings = {
        "input": layer.input.spec(),
        "weight": [codes.bits, codes.step, codes.offset],
        "shape": list(layer.shape),
        "groups": layer.groups,
        "scaled": layer.scale is not None,
        "bias": layer.bias is not None,
        "integers": layer.integers,
    }
    if isinstance(layer, (PackedConv, PackedConvTranspose)):
        settings["geometry"] = {
            "stride": list(layer.geometry.stride),
            "padding": [list(pair) for pair in layer.geometry.padding],
            "dilation": list(layer.geometry.dilation),
        }
    if isinstance(layer, PackedConvTranspose):
        settings["output_padding"] = list(layer.output_padding)
    if isinstance(layer, PackedConv):
        settings["pad_value"] = layer.pad_value
        settings["padding_mode"] = layer.padding_mode
    return {"type": type(layer).__name__, "settings": settings}


def _build(name: str, spec: Any) -> nn.Module:
    try:
        if not isinstance(spec, dict):
            raise ConfigurationError("its description is not a mapping.")
        if spec.get("type") == "PackedAttention":
            return _build_attention(dict(_typed(spec, "settings", dict)))
        if spec.get("type") in _PACKED:
            return _build_packed(spec["type"], dict(_typed(spec, "settings", dict)))
        return build_float(spec)
    except ConfigurationError as error:
        raise ConfigurationError(f"layer {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise ConfigurationError(f"layer {name!r} cannot be built: {error}") from error


def _integers(values: Any, count: int, low: int) -> tuple[int, ...]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(type(v) is int and v >= low for v in values)
    ):
        raise ConfigurationError(f"{values!r} are not {count} whole numbers from {low}.")
    return tuple(values)


def _build_attention(settings: dict[str, Any]) -> PackedAttention:
    parts = _typed(settings, "projections", dict)
    q, k, v, out = (
        _build_packed("PackedLinear", dict(_typed(_typed(parts, name, dict), "settings", dict)))
        for name in _PROJECTIONS
    )
    assert isinstance(q, PackedLinear)
    assert isinstance(k, PackedLinear)
    assert isinstance(v, PackedLinear)
    assert isinstance(out, PackedLinear)
    (heads,) = _integers([settings["num_heads"]], 1, 1)
    scores = _build_input(settings["scores"])
    return PackedAttention(heads, settings["batch_first"] is True, (q, k, v, out), scores)


def _build_packed(kind: str, settings: dict[str, Any]) -> PackedLayer:
    bits, step, offset = _integers(settings.pop("weight"), 3, -_MOST)
    raw_shape = settings.pop("shape")
    dims = len(raw_shape) if isinstance(raw_shape, list) else 0
    shape = _integers(raw_shape, dims, 1)
    groups = _integers([settings.pop("groups")], 1, 1)[0]
    flags = {key: settings.pop(key) is True for key in ("scaled", "bias", "integers")}
    common: dict[str, Any] = {
        "input": _build_input(settings.pop("input")),
        "weight": Codes(bits, step, offset),
        "shape": shape,
        **flags,
    }
    if kind == "PackedLinear":
        if dims != 2 or groups != 1 or settings:
            raise ConfigurationError("a linear layer has a shape of two dimensions, and no groups.")
        return PackedLinear(**common)
    if kind == "PackedEmbedding":
        return PackedEmbedding(common["weight"], shape, flags["scaled"])
    geometry = _typed(settings, "geometry", dict)
    pads = geometry["padding"]
    if not isinstance(pads, list) or len(pads) != dims - 2:
        raise ConfigurationError("its padding does not fit its shape.")
    padding = tuple(_integers(pair, 2, 0) for pair in pads)
    if max(max(pair) for pair in padding) > _LARGEST_PADDING:
        raise ConfigurationError(f"a padding above {_LARGEST_PADDING} is not plausible.")
    common["groups"] = groups
    common["geometry"] = Geometry(
        shape[2:],
        _integers(geometry["stride"], dims - 2, 1),
        tuple((pair[0], pair[1]) for pair in padding),
        _integers(geometry["dilation"], dims - 2, 1),
    )
    if kind == "PackedConvTranspose":
        growth = _integers(settings["output_padding"], dims - 2, 0)
        return PackedConvTranspose(**common, output_padding=growth)
    return PackedConv(
        **common,
        pad_value=float(settings["pad_value"]),
        padding_mode=_mode(settings["padding_mode"]),
    )


def _mode(name: Any) -> str:
    modes = ("zeros", "reflect", "replicate", "circular")
    if name not in modes:
        raise unknown("padding_mode", name, modes)
    return str(name)


def _build_input(spec: Any) -> Input:
    if not isinstance(spec, dict):
        raise ConfigurationError("its input is not a mapping.")
    settings = dict(spec)
    kinds: dict[str, type[Input]] = {
        cls.kind: cls for cls in (FloatInput, BinaryInput, LevelsInput, TokenInput)
    }
    kind = settings.pop("kind", None)
    if kind not in kinds:
        raise unknown("input", kind, kinds)
    for key in ("channels", "count", "bits", "lowest"):
        if key in settings and type(settings[key]) is not int:
            raise ConfigurationError(f"{key}={settings[key]!r} is not a whole number.")
    return kinds[kind](**settings)
