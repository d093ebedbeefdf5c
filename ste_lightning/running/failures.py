"""One readable message for everything that can go wrong."""

from __future__ import annotations

import difflib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    OmegaConfBaseException,
)

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.running import recipes

__all__ = [
    "RunError",
    "described",
    "in_users_code",
    "keep_traceback",
    "readable",
    "users_error",
    "warning",
]

# of Hydra's plugins, the extra of this package that brings them
_EXTRAS = {
    "joblib": "joblib",
    "optuna": "optuna",
    "ray": "ray-launcher",
    "submitit_local": "submitit",
    "submitit_slurm": "submitit",
    "tpe": "optuna",
}
_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class RunError(Exception):
    """What stopped a run, in one line for people; its cause has the traceback."""


def described(error: BaseException) -> str:
    """Return ``error`` in one line: its type, what it says, and where, in the user's code first."""
    said = " ".join(str(error).split())
    if len(said) > 400:
        said = said[:400] + " ..."
    place = _users_frame(error) or _innermost_frame(error)
    at = f" (at {place.filename}:{place.lineno}, in {place.name})" if place else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{at}"


def in_users_code(error: BaseException) -> bool:
    """Return whether code that is neither ours nor a library's was at work."""
    return _users_frame(error) is not None


def users_error(error: BaseException) -> BaseException | None:
    """Return what user's code raised and ``error`` speaks of, if anything."""
    causes = [cause for cause in _chain(error) if not isinstance(cause, ConfigurationError)]
    return next((cause for cause in causes if in_users_code(cause)), None)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _users_frame(error: BaseException) -> traceback.FrameSummary | None:
    for frame in reversed(_frames(error)):
        ours = Path(frame.filename).is_relative_to(_PACKAGE)
        if not (ours or frame.filename.startswith((*_LIBRARIES, "<"))):
            return frame
    return None


def _innermost_frame(error: BaseException) -> traceback.FrameSummary | None:
    frames = _frames(error)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    return next(iter([*reversed(ours), *reversed(frames)]), None)


def keep_traceback(error: BaseException, log: Path) -> str:
    """Append the whole traceback to ``log``; return a sentence that says so, or nothing."""
    try:
        with log.open("a", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # a full disk is one of the things that stop a run
        return ""
    return f" The full traceback is in {log}."


def warning(message: str) -> None:
    """Print to stderr what went wrong without stopping the run."""
    print(f"warning: {message}", file=sys.stderr)


def readable(error: BaseException) -> str | None:
    """Return the message to show for ``error``; None if it is a fault of the program."""
    if isinstance(error, (ConfigurationError, RunError)):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _composition(error)
    if type(error).__module__.startswith("yaml"):
        return f"a configuration file is not valid YAML: {error}"
    if isinstance(error, RecursionError):
        return "the configuration has no end: a recipe is in its own defaults, or holds itself."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror or error}."
    return None


def _missing(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if group == recipes.GROUP or group.startswith(f"{recipes.GROUP}/"):
        known = recipes.names()
        wanted = (error.missing_cfg_file or "").removeprefix(f"{recipes.GROUP}/")
        close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        for program, studies in (("train", False), ("study", True)):
            if wanted in recipes.recipe_names(studies):
                command = f"python -m ste_lightning.{program} +recipe={wanted}"
                return f"unknown recipe {wanted!r} here. It belongs to: {command}"
        listed = recipes.listing()
        return f"unknown recipe {wanted!r}.{hint} Recipes:\n{listed}"
    if group in ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler") and option in _EXTRAS:
        return f"{group}={option} is not installed: pip install 'ste-lightning[{_EXTRAS[option]}]'."
    if error.options:
        own = _YOUR_OWN.get(group, "")
        return str(unknown(group, option, error.options)) + own
    return str(error)


_YOUR_OWN = {
    "data": " For a class of your own write data: {_target_: my_module.MyData} in a recipe "
    "(python -m ste_lightning.new DIR writes one).",
    "quantizer": " For one of weights alone: quantizer.weight=NAME, or a mapping: "
    "'quantizer.weight={map: lsq, bits: 4}'.",
}


# what people type, where another key of this name, or a similar one, is something else
_MEANT = {
    "epochs": ["trainer.max_epochs"],
    "bits": ["quantizer=lsq4", "quantizer.weight.bits"],
    "gpu": ["trainer=gpu"],
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()  # `raise cause from error` makes a circle
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _group_to_choose(reason: str) -> str:
    """Return the remedy for a reference into a group of which nothing is chosen."""
    group = re.search(r"'(\w+)\.", reason)
    return f" Choose one of its options: {group[1]}=NAME; --help lists them." if group else ""


def _groups_with(parent: DictConfig, key: str) -> list[str]:
    """Return where a key stands deeper: ``rule`` as ``model.rule``, ``n`` as ``parts.small.n``."""
    plain = OmegaConf.to_container(parent, resolve=False)
    assert isinstance(plain, dict)
    level = {str(name): group for name, group in plain.items() if name != "hydra"}
    while level := {name: group for name, group in level.items() if isinstance(group, dict)}:
        if found := [f"{name}.{key}" for name, group in level.items() if key in group]:
            return found
        deeper = ((f"{name}.{k!s}", part) for name, g in level.items() for k, part in g.items())
        level = dict(deeper)
    return []


def _composition(error: BaseException) -> str:
    said = str(error).strip().splitlines()[0]
    inner = next((e for e in _chain(error) if isinstance(e, OmegaConfBaseException)), None)
    if inner is None:
        return str(error).strip()
    reason = str(inner).strip().splitlines()[0]
    parent = inner.parent_node
    hint = _group_to_choose(reason) if isinstance(inner, InterpolationKeyError) else ""
    if isinstance(inner, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        key = str(inner.key)
        close = (
            _MEANT.get(key)
            or _groups_with(parent, key)
            or difflib.get_close_matches(key, map(str, parent), n=1, cutoff=0.5)
        )
        hint = f" Did you mean {' or '.join(map(repr, close[:3]))}?" if close else ""
        known = sorted(str(key) for key in parent if key != "hydra")
        hint += f" Known here: {', '.join(known)}." if known else ""
        hint += f" A further key takes a plus: +{inner.full_key}=..." if not close else ""
    place = f" (at {inner.full_key})" if inner.full_key and inner.full_key not in reason else ""
    before = "" if said == reason else f"{said.rstrip(':.')}: "
    return f"{before}{reason.rstrip('.')}{place}.{hint}"
