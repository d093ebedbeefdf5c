"""The registry of forward maps: which quantizer module has which name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from ste_lightning.errors import ConfigurationError, require, require_free_name, unknown
from ste_lightning.extensions import REMEDY, load_installed

__all__ = ["quantizer_class", "quantizer_names", "register_quantizer", "registered_name"]

Q = TypeVar("Q", bound=type[nn.Module])
_QUANTIZERS: dict[str, type[nn.Module]] = {}


def register_quantizer(name: str) -> Callable[[Q], Q]:
    """Make a quantizer module available to :func:`~ste_lightning.quantizers.build` under ``name``.

    Raises:
        ConfigurationError: for what is no module class, or no name; if ``name`` is taken by
            another class.
    """
    require(isinstance(name, str) and bool(name), "name", name, "use a name")

    def add(cls: Q) -> Q:
        fits = isinstance(cls, type) and issubclass(cls, nn.Module)
        require(fits, "quantizer", cls, "register a class that derives from Quantizer")
        require_free_name("quantizer", name, _QUANTIZERS.get(name), cls)
        cls.map_name = name  # type: ignore[attr-defined]
        _QUANTIZERS[name] = cls
        return cls

    return add


def quantizer_names() -> tuple[str, ...]:
    """Return the names of all registered forward maps, those of extensions too, sorted."""
    load_installed()
    return tuple(sorted(_QUANTIZERS))


def quantizer_class(name: str) -> type[nn.Module]:
    """Return the module class registered under ``name``.

    Raises:
        ConfigurationError: for an unknown name, with the nearest match.
    """
    if name not in _QUANTIZERS:
        load_installed()
    if name not in _QUANTIZERS:
        stem, call, _ = name.partition("(")
        if call and stem in _QUANTIZERS:
            raise ConfigurationError(
                f"unknown quantizer {name!r}: write its options as a mapping, "
                f"{{'map': {stem!r}, ...}}."
            )
        raise unknown("quantizer", name, _QUANTIZERS, REMEDY)
    return _QUANTIZERS[name]


def registered_name(cls: type[nn.Module]) -> str | None:
    """Return the name under which exactly this class is registered; ``None`` for others."""
    name = getattr(cls, "map_name", "")
    return name if _QUANTIZERS.get(name) is cls else None
