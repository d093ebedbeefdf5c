"""What the Hydra command lines share: arguments in, one readable message and a status out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from ste_lightning.errors import ConfigurationError
from ste_lightning.running.failures import readable

__all__ = ["complain", "config_dir", "refusing", "status_of"]


def complain(message: str) -> None:
    """Print an error to stderr."""
    print(f"error: {message}", file=sys.stderr)


def config_dir(arguments: Sequence[str]) -> str | None:
    """Return the folder given as Hydra's ``--config-dir``, if any."""
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            return value if equals else next(iter(arguments[index + 1 :]), None)
    return None


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Move overrides behind the flags: Hydra's parser refuses a flag between two overrides."""

    def is_override(argument: str) -> bool:
        return argument[:1] in ("+", "~") or ("=" in argument and argument[:1] != "-")

    flags = [argument for argument in arguments if not is_override(argument)]
    return flags + [argument for argument in arguments if is_override(argument)]


def refusing(task: Callable[[], object]) -> object:
    """Call ``task``; a refused setting is printed and ends the job with status 1.

    Caught inside Hydra's job, so that Hydra adds nothing to the message.
    """
    try:
        return task()
    except ConfigurationError as error:
        complain(str(error))
        raise SystemExit(1) from None


def status_of(
    task: Callable[[], object], arguments: Sequence[str] | None, prepare: Callable[[], None]
) -> int:
    """Run a Hydra task function as a command line.

    Args:
        task: the decorated function.
        arguments: what follows the program's name; None takes it from the process.
        prepare: registers recipes and schemas; sees the final arguments in ``sys.argv``.

    Returns:
        The exit status: 0, or 1 when a setting was refused.
    """
    sys.argv[1:] = _flags_first(sys.argv[1:] if arguments is None else arguments)
    # Hydra then raises instead of printing its own message and a hint about this variable.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    prepare()
    try:
        task()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        message = readable(error)
        if message is None:
            raise
        complain(message)
        return 1
    return 0
