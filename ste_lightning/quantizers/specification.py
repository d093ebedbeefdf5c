"""What a quantizer is, read from the module: the mapping from which it can be built again."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ste_lightning.functional import Surrogate
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import registered_name

__all__ = ["differences", "specification", "summarize"]


def specification(quantizer: nn.Module | None) -> dict[str, Any] | None:
    """Return the full specification of a quantizer as plain Python; ``None`` for none.

    ``build(specification(q))`` makes a quantizer like ``q`` before training: map, bits,
    signedness, granularity, scale mode, rule and parameters, schedules, defaults included. What
    is learned or measured is not part of it. A module that :func:`register_quantizer` does not
    know has ``module``, its class, in the place of ``map``, and cannot be built again.

    Args:
        quantizer: any module.
    """
    if quantizer is None:
        return None
    name = registered_name(type(quantizer))
    kind = type(quantizer)
    spec: dict[str, Any] = (
        {"module": f"{kind.__module__}.{kind.__qualname__}"} if name is None else {"map": name}
    )
    schedules = getattr(quantizer, "schedules", {})
    for key in _settings(quantizer, registered=name is not None):
        value = getattr(quantizer, f"first_{key}", getattr(quantizer, key))  # learned from there
        if key not in schedules and not isinstance(value, Tensor):
            spec[key] = _plain(value)
    rule = quantizer._rule if isinstance(quantizer, Quantizer) else None
    if rule is not None:
        spec["rule"] = rule.name
        given = {k: _plain(v) for k, v in rule.parameters().items() if k not in schedules}
        spec.update(given)
    if schedules:
        spec["schedule"] = {
            key: {
                "function": one.function,
                **dict(one.params),
                "begin": one.begin,
                "until": one.until,
            }
            for key, one in schedules.items()
        }
    return spec


def _settings(quantizer: nn.Module, registered: bool) -> Iterator[str]:
    """Yield the attributes that set the quantizer up: its arguments, or all that are public."""
    signature = inspect.signature(type(quantizer).__init__).parameters
    arguments = {
        name
        for name, p in signature.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in ("self", "rule")
    }
    if not registered or not all(hasattr(quantizer, name) for name in arguments):
        own = {name for name in vars(quantizer) if not name.startswith("_")}
        arguments |= own - {"training", "schedules", "strength", "T_destination"}
    for name in sorted(arguments):
        if hasattr(quantizer, name) and name not in quantizer._modules:
            yield name


def _plain(value: Any) -> Any:
    """Return plain Python that a checkpoint can keep and that compares by value."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Surrogate):
        return _plain(value.specification())
    return getattr(value, "__name__", None) or repr(value)


def differences(
    saved: Any, present: Any, key: str = "", words: tuple[str, str] = ("there", "here")
) -> list[str]:
    """Return what differs between two specifications, as ``"weight bits: 8 there, 2 here"``.

    Args:
        saved: one, of a checkpoint.
        present: the other, of the model.
        key: what both belong to.
        words: what to call the two.
    """
    if isinstance(saved, Mapping) and isinstance(present, Mapping):
        found = []
        for name in dict.fromkeys([*saved, *present]):
            path = f"{key} {name}".strip()
            found += differences(saved.get(name), present.get(name), path, words)
        return found
    if saved == present:
        return []
    return [f"{key}: {_short(saved)} {words[0]}, {_short(present)} {words[1]}"]


def _short(spec: Any) -> str:
    if isinstance(spec, Mapping):
        spec = {k: v for k, v in spec.items() if v is not None}
        return str(spec.get("map", spec))
    return "float" if spec is None else str(spec)


def summarize(quantizer: nn.Module | None) -> str:
    """Return a line for tables: ``"lsq/identity 4 bits signed channel"``; ``"float"`` for none."""
    if quantizer is None:
        return "float"
    name = getattr(quantizer, "map_name", "") or type(quantizer).__name__
    rule = getattr(quantizer, "rule", None)
    words = [f"{name}/{rule.name}" if isinstance(rule, Surrogate) else str(name)]
    bits = getattr(quantizer, "bits", None)
    if bits is not None:
        driven = "bits" in getattr(quantizer, "schedules", {})
        number = round(float(bits), 2)
        words.append(f"{number:g} bit{'' if number == 1 else 's'}{' (scheduled)' * driven}")
    signed = getattr(quantizer, "signed", None)
    symmetric = getattr(quantizer, "symmetric", None)
    if signed is not None:
        words.append("signed" if signed else "unsigned")
    elif symmetric is not None:
        words.append("signed" if symmetric else "affine")
    scale = getattr(quantizer, "scale", None)
    if isinstance(scale, str) and scale != "none":
        words.append(scale)
    group = getattr(quantizer, "group_size", None)
    granularity = getattr(quantizer, "granularity", None)
    if group is not None:
        words.append(f"groups of {group}")
    elif granularity is not None:
        words.append(str(granularity))
    return " ".join(words)
