"""From a specification to a quantizer: its map, rule, parameters and schedules, each checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.functional import rule_class
from ste_lightning.functional.schedules import PRESETS
from ste_lightning.quantizers.quantizer import Operand, Quantizer
from ste_lightning.quantizers.registry import quantizer_class

__all__ = ["QuantizerSpec", "build"]

QuantizerSpec = str | Mapping[str, Any] | nn.Module | None


def build(
    spec: QuantizerSpec, operand: Operand = "activations", channel_dim: int = 0
) -> nn.Module | None:
    """Make a quantizer from its specification.

    Args:
        spec: a forward map's name (``"sign"``); a mapping with ``map`` (default ``"sign"``),
            ``rule``, the parameters of both and ``schedule``
            (``{"map": "sign", "rule": "reste", "schedule": "reste"}``); a module, returned as it
            is; or ``None`` for no quantizer. ``schedule`` is the name of a preset
            (:data:`~ste_lightning.functional.schedules.PRESETS`) or a mapping: a preset to its
            parameters (``{"ede": {"start": 0.001}}``), or a parameter to a function with its
            parameters (``{"t": {"function": "log", "start": 0.1, "end": 10}}``).
        operand: what it will quantize; a map or a rule meant for the other operand is refused.
        channel_dim: the output channel's axis, for maps with one scale per channel.

    Returns:
        The quantizer module, or ``None``.

    Raises:
        ConfigurationError: for unknown names and keys (with the nearest match), parameters out
            of range, and maps or rules that do not fit the operand.
    """
    if spec is None or isinstance(spec, nn.Module):
        return spec
    if isinstance(spec, str):
        spec = {"map": spec}
    if not isinstance(spec, Mapping):
        raise ConfigurationError(
            f"quantizer={spec!r} cannot be used: give a name, a mapping, a module or None."
        )
    arguments = {str(key): value for key, value in spec.items()}
    schedules = arguments.pop("schedule", None)
    remedy = "" if "map" in arguments else "'map' names the quantizer; without it, it is 'sign'."
    cls = quantizer_class(str(arguments.pop("map", "sign")))
    _check_keys(cls, arguments, remedy)
    context = {"operand": operand, "channel_dim": channel_dim}
    takes = inspect.signature(cls.__init__).parameters
    quantizer = cls(**{k: v for k, v in context.items() if k in takes} | arguments)
    if isinstance(quantizer, Quantizer):
        _check_operand(quantizer, operand)
    if schedules is not None:
        _attach_schedules(quantizer, schedules)
    return quantizer


def _check_operand(quantizer: Quantizer, operand: Operand) -> None:
    """Refuse maps and rules that are meant for the other operand."""
    require(
        operand in quantizer.operands,
        "map",
        quantizer.map_name,
        f"it is meant for {' and '.join(sorted(quantizer.operands))}, not for {operand}",
    )
    rule = quantizer.rule
    if operand not in rule.operands:
        raise ConfigurationError(
            f"rule={rule.name!r} cannot be used on {operand}: it is meant for "
            f"{' and '.join(sorted(rule.operands))}. For {operand} use for example 'clipped'."
        )


def _attach_schedules(quantizer: nn.Module, spec: str | Mapping[str, Any]) -> None:
    """Attach the presets and schedules of a specification."""
    if not isinstance(quantizer, Quantizer):
        raise ConfigurationError(
            f"schedule={spec!r} cannot be used: {type(quantizer).__name__} is not a Quantizer."
        )
    if isinstance(spec, str):
        spec = {spec: {}}
    right = isinstance(spec, Mapping) and all(isinstance(v, (str, Mapping)) for v in spec.values())
    require(right, "schedule", spec, "give a name, or {PARAMETER: {function: NAME, ...}}")
    for key, value in spec.items():
        arguments = {"function": value} if isinstance(value, str) else dict(value)
        function = arguments.pop("function", None)
        if function is not None:
            quantizer.schedule(key, function, **arguments)
            continue
        if key not in PRESETS:
            raise unknown("schedule", key, PRESETS)
        for parameter, preset in PRESETS[key].items():
            quantizer.schedule(parameter, preset, **arguments)


def _check_keys(cls: type[nn.Module], arguments: Mapping[str, Any], remedy: str) -> None:
    """Refuse keys that neither the map nor the rule knows."""
    signature = inspect.signature(cls.__init__).parameters
    known = {n for n, p in signature.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    known.discard("self")
    if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        rule = arguments.get("rule") or getattr(cls, "default_rule", None)
        if isinstance(rule, str):
            known |= set(rule_class(rule).parameter_names)
    for key in arguments:
        if key not in known:
            raise unknown(
                f"key of quantizer {getattr(cls, 'map_name', cls.__name__)!r}:",
                key,
                known | {"map", "schedule"},
                remedy,
            )
