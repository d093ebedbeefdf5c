"""Arguments ``key=value`` of the command lines that need no configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["key_values"]


def key_values(
    arguments: Sequence[str], keys: Iterable[str], needed: Iterable[str]
) -> dict[str, str]:
    """Return what ``key=value`` arguments say.

    Args:
        arguments: what follows the program's name.
        keys: the known ones.
        needed: those that must be given.

    Raises:
        ConfigurationError: for another form, an unknown, empty or missing key, with the remedy.
    """
    settings: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigurationError(f"{argument!r} cannot be used: write key=value.")
        if key not in keys:
            raise unknown("key", key, keys)
        if not value and key not in needed:
            raise ConfigurationError(f"{key}= has no value: leave it out, or add one.")
        settings[key] = value
    for key in needed:
        if not settings.get(key):
            raise ConfigurationError(f"{key} is missing: add {key}=FILE.")
    return settings
