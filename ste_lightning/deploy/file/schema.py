"""Packed layers as plain data, to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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

__all__ = ["build", "build_input", "build_packed", "check_numbers", "check_tensors", "describe",
           "integers", "typed"]  # fmt: skip

_PACKED = ("PackedLinear", "PackedConv", "PackedConvTranspose", "PackedEmbedding")
_MOST = 1 << 31  # larger numbers in an architecture are nonsense
_LARGEST_PADDING = 1 << 12


def typed(spec: dict[str, Any], key: str, kind: type) -> Any:
    """Return an entry of a description, which must be of a type."""
    value = spec.get(key)
    if not isinstance(value, kind):
        raise ConfigurationError(f"the architecture's {key!r} is not a {kind.__name__}.")
    return value


def check_numbers(value: Any) -> None:
    """Refuse numbers that no description of a layer holds."""
    if isinstance(value, dict):
        for item in value.values():
            check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            check_numbers(item)
    elif isinstance(value, (int, float)) and not abs(value) <= _MOST:  # nor not a number
        raise ConfigurationError(f"the architecture holds the number {value}.")


def describe(layer: nn.Module) -> dict[str, Any]:
    """Return the plain description of a packed module, without its tensors."""
    if isinstance(layer, Input):
        return {"type": "Input", "settings": {"input": layer.spec()}}
    if not isinstance(layer, PackedLayer):
        raise unknown("layer", type(layer).__name__, (*_PACKED, "Input"))
    codes = layer.weight_codes
    settings: dict[str, Any] = {
        "input": layer.input.spec(),
        "weight": [codes.bits, codes.step, codes.offset],
        "shape": list(layer.shape),
        "groups": layer.groups,
        "scaled": layer.scales if layer.scales > 1 else layer.scale is not None,
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


def build(name: str, spec: Any) -> nn.Module:
    """Return the module that :func:`describe` described, with values yet to be loaded.

    Raises:
        ConfigurationError: for anything that :func:`describe` would not write.
    """
    try:
        if not isinstance(spec, dict):
            raise ConfigurationError("its description is not a mapping.")
        check_numbers(spec)
        kind, settings = spec.get("type"), dict(typed(spec, "settings", dict))
        if kind == "Input":
            return build_input(settings.get("input"))
        if kind not in _PACKED:
            raise unknown("layer", kind, (*_PACKED, "Input"))
        return build_packed(str(kind), settings)
    except ConfigurationError as error:
        raise ConfigurationError(f"layer {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise ConfigurationError(f"layer {name!r} cannot be built: {error}") from error


def integers(values: Any, count: int, low: int) -> tuple[int, ...]:
    """Return whole numbers, which must be so many and not below ``low``."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(type(v) is int and v >= low for v in values)
    ):
        raise ConfigurationError(f"{values!r} are not {count} whole numbers from {low}.")
    return tuple(values)


def build_packed(kind: str, settings: dict[str, Any]) -> PackedLayer:
    """Return a packed layer by its settings."""
    bits, step, offset = integers(settings.pop("weight"), 3, -_MOST)
    raw_shape = settings.pop("shape")
    dims = len(raw_shape) if isinstance(raw_shape, list) else 0
    shape = integers(raw_shape, dims, 1)
    groups = integers([settings.pop("groups")], 1, 1)[0]
    flags = {key: settings.pop(key) is True for key in ("bias", "integers")}
    scaled = settings.pop("scaled")
    scaled = integers([scaled], 1, 2)[0] if type(scaled) is int else scaled is True
    common: dict[str, Any] = {
        "input": build_input(settings.pop("input")),
        "weight": Codes(bits, step, offset),
        "shape": shape,
        "scaled": scaled,
        **flags,
    }
    if kind == "PackedLinear":
        if dims != 2 or groups != 1 or settings:
            raise ConfigurationError("a linear layer has a shape of two dimensions, and no groups.")
        return PackedLinear(**common)
    if kind == "PackedEmbedding":
        return PackedEmbedding(common["weight"], shape, scaled)
    geometry = typed(settings, "geometry", dict)
    pads = geometry["padding"]
    if not isinstance(pads, list) or len(pads) != dims - 2:
        raise ConfigurationError("its padding does not fit its shape.")
    padding = tuple(integers(pair, 2, 0) for pair in pads)
    if max(max(pair) for pair in padding) > _LARGEST_PADDING:
        raise ConfigurationError(f"a padding above {_LARGEST_PADDING} is not plausible.")
    common["groups"] = groups
    common["geometry"] = Geometry(
        shape[2:],
        integers(geometry["stride"], dims - 2, 1),
        tuple((pair[0], pair[1]) for pair in padding),
        integers(geometry["dilation"], dims - 2, 1),
    )
    if kind == "PackedConvTranspose":
        growth = integers(settings["output_padding"], dims - 2, 0)
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


def build_input(spec: Any) -> Input:
    """Return an input quantizer by its settings."""
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


def check_tensors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors of packed layers that are missing, left over, or do not fit."""
    for name, value in wanted.items():
        if name not in found:
            raise ConfigurationError(f"the tensor {name!r} is missing.")
        given = found[name]
        if given.shape != value.shape or given.dtype != value.dtype:
            raise ConfigurationError(
                f"{name!r} is {given.dtype} {tuple(given.shape)}, the architecture needs "
                f"{value.dtype} {tuple(value.shape)}."
            )
        if given.is_floating_point() and not bool(torch.isfinite(given).all()):
            raise ConfigurationError(f"{name!r} holds a number that is not finite.")
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise ConfigurationError(f"the architecture has no tensor {extra[0]!r}.")
