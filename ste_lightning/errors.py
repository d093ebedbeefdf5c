"""The one error users see for a wrong setting: argument, value, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral

__all__ = [
    "ConfigurationError",
    "NotFiniteError",
    "require",
    "require_free_name",
    "require_positive_integer",
    "unknown",
]


class ConfigurationError(ValueError):
    """A setting that cannot work. The message names the argument, its value and the remedy."""


class NotFiniteError(ConfigurationError):
    """A training that has met NaN or infinity. The message says where, when and from what."""


def require(condition: bool, argument: str, value: object, remedy: str) -> None:
    """Raise :class:`ConfigurationError` unless ``condition`` holds.

    Args:
        condition: what must be true of ``value``.
        argument: the argument's name as the user wrote it.
        value: what the user passed.
        remedy: what to pass instead, as a phrase: ``"use a positive integer"``.
    """
    if not condition:
        raise ConfigurationError(f"{argument}={value!r} cannot be used: {remedy}.")


def require_positive_integer(argument: str, value: object) -> None:
    """Raise :class:`ConfigurationError` unless ``value`` is an integer, NumPy's too, above 0."""
    counts = isinstance(value, Integral) and int(value) > 0
    require(counts, argument, value, "use a positive integer")


def require_free_name(kind: str, name: str, taken: type | None, new: type) -> None:
    """Raise :class:`ConfigurationError` where another class is registered under ``name``.

    Args:
        kind: what is registered: ``"backward rule"``.
        name: of ``new``.
        taken: the class of this name, if there is one; a module that is imported again may
            register its class again.
        new: the class to register.
    """
    free = taken is None or taken.__qualname__ == new.__qualname__
    require(free, "name", name, f"another {kind} has this name, choose a new one")


def unknown(
    kind: str, name: object, options: Iterable[str], remedy: str = ""
) -> ConfigurationError:
    """Return the error for a name that is not among ``options``, with the nearest match.

    Args:
        kind: what is unknown: ``"backward rule"``.
        name: as the user wrote it.
        options: what is known.
        remedy: a sentence on how ``name`` would become known.
    """
    options = sorted(options)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    known = f" Known: {', '.join(options)}." if options else " There is none."
    return ConfigurationError(f"unknown {kind} {name!r}.{hint}{known} {remedy}".rstrip())
