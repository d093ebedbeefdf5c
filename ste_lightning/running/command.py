"""What the Hydra command lines share: arguments in, one readable message and a status out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.io.paths import CONF
from ste_lightning.running.failures import described, readable

__all__ = ["answered", "complain", "config_dir", "parsed", "refusing", "status_of"]

TRACEBACK = "STE_TRACEBACK"
"""Environment variable; 1 shows the whole traceback of an error."""

_FLAGS = {
    *("--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--experimental-rerun", "--help", "-h", "--hydra-help", "--info", "-i", "--multirun", "-m"),
    *("--help-all", "--package", "-p", "--resolve", "--run", "-r"),
    *("--shell-completion", "-sc", "--version"),
}


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


def parsed(argument: str) -> Override | None:
    """Return an argument as an override; None for a flag, and for what Hydra refuses by itself."""
    try:
        return OverridesParser.create().parse_override(argument) if argument[:1] != "-" else None
    except HydraException:
        return None


def _is_override(argument: str) -> bool:
    return argument[:1] in ("+", "~") or ("=" in argument and argument[:1] != "-")


def _explained(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as Hydra takes them: flags first, ``--help-all`` as a longer help.

    Its parser refuses a flag between two overrides.
    """
    flags = [argument for argument in arguments if not _is_override(argument)]
    overrides = [argument for argument in arguments if _is_override(argument)]
    if "--help-all" in flags:
        flags = ["--help" if flag == "--help-all" else flag for flag in flags]
        overrides.append("hydra.help.template=${hydra.help.footer}")
    return flags + overrides


def _check_words(arguments: Sequence[str], groups: Iterable[str]) -> None:
    """Refuse flags that do not exist, and values of groups that are no names of options."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("-") and not any(known.startswith(flag) for known in _FLAGS):
            raise unknown("flag", flag, _FLAGS)
    for argument in filter(_is_override, arguments):
        if not argument.partition("=")[0].strip("+~"):
            raise ConfigurationError(f"{argument!r} cannot be used: write key=value.")
        override = parsed(argument)
        group = "" if override is None else override.key_or_group
        if override is None or group not in groups:
            continue
        if override.is_delete() or override.is_sweep_override():
            continue
        value = override.value()
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) and name for name in names):
            folder = CONF / group
            known = sorted(path.stem for path in folder.glob("*.yaml"))
            options = f"choose one of its options: {', '.join(known)}" if known else "name one"
            raise ConfigurationError(f"{argument} cannot be used: {options}.")


def refusing(task: Callable[[], object]) -> object:
    """Call ``task``; what goes wrong is printed and ends the job with status 1.

    Caught inside Hydra's job, so that Hydra adds nothing to the message.
    """
    try:
        return task()
    except Exception as error:
        _tell(error)
        raise SystemExit(1) from None


def _tell(error: Exception) -> None:
    if os.environ.get(TRACEBACK) == "1":
        raise error
    message = readable(error)
    if message is None:
        message = f"{described(error)}. {TRACEBACK}=1 shows the traceback."
    complain(message)


def status_of(
    task: Callable[[], object],
    arguments: Sequence[str] | None,
    prepare: Callable[[], None],
    groups: Iterable[str] = (),
    interrupted: str = "interrupted",
) -> int:
    """Run a Hydra task function as a command line.

    Args:
        task: the decorated function.
        arguments: what follows the program's name; None takes it from the process.
        prepare: registers recipes and schemas; sees the final arguments in ``sys.argv``.
        groups: the configuration groups whose options the command line may choose.
        interrupted: what to say after Ctrl-C.

    Returns:
        The exit status: 0, 1 when a setting was refused or something failed, 130 after Ctrl-C.
    """
    sys.argv[1:] = _explained(sys.argv[1:] if arguments is None else arguments)
    # Hydra then raises instead of printing its own message and a hint about this variable.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def work() -> None:
        _check_words(sys.argv[1:], groups)
        prepare()
        task()

    return answered(work, interrupted)


def answered(task: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Return the exit status of ``task``: its own, or 1 with one message for what went wrong.

    Args:
        task: the work of a command line.
        interrupted: what to say after Ctrl-C, whose status is 130.
    """
    try:
        return task() or 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _tell(error)
        return 1
