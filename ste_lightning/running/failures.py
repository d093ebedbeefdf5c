"""One readable message for everything a user can get wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    OmegaConfBaseException,
)

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.running import recipes

__all__ = ["readable"]


def readable(error: BaseException) -> str | None:
    """Return the message to show for ``error``; None if it is a fault of the program."""
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _composition(error)
    if type(error).__module__.startswith("yaml"):
        return f"a configuration file is not valid YAML: {error}"
    return None


def _missing(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if group == recipes.GROUP or group.startswith(f"{recipes.GROUP}/"):
        known = recipes.names()
        wanted = (error.missing_cfg_file or "").removeprefix(f"{recipes.GROUP}/")
        close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listed = recipes.listing()
        return f"unknown recipe {wanted!r}.{hint} Recipes:\n{listed}"
    if error.options:
        return str(unknown(group, option, error.options))
    return str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _group_to_choose(reason: str) -> str:
    """Return the remedy for a reference into a group of which nothing is chosen."""
    group = re.search(r"'(\w+)\.", reason)
    return f" Choose one of its options: {group[1]}=NAME; --help lists them." if group else ""


def _composition(error: BaseException) -> str:
    said = str(error).strip().splitlines()[0]
    inner = next((e for e in _chain(error) if isinstance(e, OmegaConfBaseException)), None)
    if inner is None:
        return str(error).strip()
    reason = str(inner).strip().splitlines()[0]
    parent = inner.parent_node
    hint = _group_to_choose(reason) if isinstance(inner, InterpolationKeyError) else ""
    if isinstance(inner, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        close = difflib.get_close_matches(str(inner.key), map(str, parent), n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        known = sorted(str(key) for key in parent if key != "hydra")
        hint += f" Known here: {', '.join(known)}." if known else ""
    place = f" (at {inner.full_key})" if inner.full_key and inner.full_key not in reason else ""
    before = "" if said == reason else f"{said.rstrip(':.')}: "
    return f"{before}{reason.rstrip('.')}{place}.{hint}"
