"""The one error users see for a wrong setting: argument, value, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ConfigurationError", "NotFiniteError", "require", "unknown"]


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
