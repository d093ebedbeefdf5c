"""What a quantizer module is, the registry of forward maps, and ``build``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from torch import nn

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.functional import Surrogate, rule_class, surrogate

__all__ = [
    "Operand",
    "Quantizer",
    "QuantizerSpec",
    "build",
    "quantizer_class",
    "quantizer_names",
    "register_quantizer",
]

Operand = Literal["weights", "activations"]
QuantizerSpec = str | Mapping[str, Any] | nn.Module | None


class Quantizer(nn.Module):
    """A forward map with a backward rule, as a module.

    Args:
        rule: the backward rule, a name or a :class:`~ste_lightning.functional.Surrogate`.
        params: the rule's parameters, when ``rule`` is a name.

    Attributes:
        bits: how many bits one quantized element takes when packed.
        rule: the backward rule.
    """

    map_name: ClassVar[str] = ""
    default_rule: ClassVar[str] = "clipped"
    bits: float

    def __init__(self, rule: str | Surrogate | None = None, **params: Any) -> None:
        super().__init__()
        self.rule = surrogate(self.default_rule if rule is None else rule, **params)
        require(
            self.map_name in self.rule.maps or not self.rule.maps & {"sign", "step"},
            "rule",
            self.rule.name,
            f"it does not fit the map {self.map_name!r}",
        )

    def extra_repr(self) -> str:
        """Return the backward rule with its parameters."""
        params = "".join(f", {k}={v}" for k, v in self.rule.parameters().items())
        return f"rule={self.rule.name!r}{params}"


Q = TypeVar("Q", bound=type[nn.Module])
_QUANTIZERS: dict[str, type[nn.Module]] = {}


def register_quantizer(name: str) -> Callable[[Q], Q]:
    """Make a quantizer module available to :func:`build` under ``name``."""

    def add(cls: Q) -> Q:
        cls.map_name = name  # type: ignore[attr-defined]
        _QUANTIZERS[name] = cls
        return cls

    return add


def quantizer_names() -> tuple[str, ...]:
    """Return the names of all registered forward maps, sorted."""
    return tuple(sorted(_QUANTIZERS))


def quantizer_class(name: str) -> type[nn.Module]:
    """Return the module class registered under ``name``.

    Raises:
        ConfigurationError: for an unknown name, with the nearest match.
    """
    if name not in _QUANTIZERS:
        raise unknown("quantizer", name, _QUANTIZERS)
    return _QUANTIZERS[name]


def build(spec: QuantizerSpec, operand: Operand = "activations") -> nn.Module | None:
    """Make a quantizer from its specification.

    Args:
        spec: a forward map's name (``"sign"``); a mapping with ``map`` (default ``"sign"``),
            ``rule`` and the parameters of both (``{"map": "sign", "rule": "reste", "o": 3.0}``);
            a module, returned as it is; or ``None`` for no quantizer.
        operand: what it will quantize; a rule meant for the other operand is refused.

    Returns:
        The quantizer module, or ``None``.

    Raises:
        ConfigurationError: for unknown names and keys (with the nearest match), parameters out
            of range, and rules that do not fit the operand.
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
    cls = quantizer_class(str(arguments.pop("map", "sign")))
    _check_keys(cls, arguments)
    quantizer = cls(**arguments)
    rule = getattr(quantizer, "rule", None)
    if isinstance(rule, Surrogate) and operand not in rule.operands:
        raise ConfigurationError(
            f"rule={rule.name!r} cannot be used on {operand}: it is meant for "
            f"{' and '.join(sorted(rule.operands))}. For {operand} use for example 'clipped'."
        )
    return quantizer


def _check_keys(cls: type[nn.Module], arguments: Mapping[str, Any]) -> None:
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
                known | {"map"},
            )


def describe(quantizer: nn.Module | None) -> str:
    """Return a short name for tables and reprs: ``float``, ``sign/clipped``, ..."""
    if quantizer is None:
        return "float"
    name = getattr(quantizer, "map_name", type(quantizer).__name__)
    rule = getattr(quantizer, "rule", None)
    return f"{name}/{rule.name}" if isinstance(rule, Surrogate) else str(name)
