"""The settings of a run as plain Python, checked as far as they speak for themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf, open_dict

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.quantizers import quantizer_class, quantizer_names
from ste_lightning.running import recipes
from ste_lightning.running.intervals import INTERVALS
from ste_lightning.running.schema import Schema

__all__ = ["Settings", "completed", "refuse_kept_rule", "resolved"]

Settings = dict[str, Any]

_GROUPS = ("quantizer", "optimizer", "trainer", "callbacks", "logger", "summary", "figures")
_SWEEP = ("baseline", "interval", "figures")
_MOST_THREADS = 1024

# Lightning takes these without a word, and then fails late or does nothing.
_LEAST = {
    "max_epochs": -1,
    "max_steps": -1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
    "overfit_batches": 0,
    "reload_dataloaders_every_n_epochs": 0,
}
_TRAINS_NOTHING = ("max_epochs", "max_steps", "limit_train_batches")


def resolved(cfg: DictConfig, folder: Path) -> Settings:
    """Return the settings with every reference replaced by its value.

    Args:
        cfg: the run's configuration.
        folder: what ``${folder}`` stands for.

    Raises:
        ConfigurationError: for settings that cannot work.
    """
    copied = cfg.copy()
    with open_dict(copied):
        copied.folder = str(folder)
    given: Settings = OmegaConf.to_container(  # type: ignore[assignment]
        copied, resolve=True, throw_on_missing=True
    )
    settings = completed(given, Schema)
    settings["mode"] = settings["mode"].value
    if not settings["model"] or not settings["data"]:
        listed = recipes.listing()
        raise ConfigurationError(f"no recipe chosen: add +recipe=NAME. Recipes:\n{listed}")
    _check(settings)
    return settings


def completed(settings: Settings, schema: type) -> Settings:
    """Return the settings with defaults in the place of keys that ``~key`` has taken away.

    Args:
        settings: as plain Python.
        schema: the dataclass with all keys.

    Raises:
        ConfigurationError: for a key that ``+key=value`` has added although nothing reads it.
    """
    defaults = dataclasses.asdict(schema())
    for key in settings:
        if key not in defaults:
            raise unknown("key", key, defaults)
    return defaults | settings


def refuse_kept_rule(settings: Settings, overrides: Sequence[str]) -> None:
    """Refuse another map with the backward rule of the quantizer that was there before.

    Args:
        settings: of the run.
        overrides: those of the command line.

    Raises:
        ConfigurationError: if ``quantizer.weight.map=...`` comes without a rule, and the map's own
            default is another one than the option's.
    """
    given = dict(one.lstrip("+").partition("=")[::2] for one in overrides)
    for role in ("weight", "input"):
        key = f"quantizer.{role}"
        name, spec = given.get(f"{key}.map"), settings["quantizer"].get(role)
        kept = spec.get("rule") if isinstance(spec, Mapping) else None
        alone = name is not None and f"{key}.rule" not in given
        if alone and kept is not None and name in quantizer_names():
            own = getattr(quantizer_class(name), "default_rule", kept)
            require(
                kept == own,
                f"{key}.map",
                name,
                f"it would keep rule={kept} of the quantizer before; {key}={name} takes the whole "
                f"quantizer, {key}.rule=... says which rule",
            )


def _check(settings: Settings) -> None:
    seed, threads, name = settings["seed"], settings["threads"], settings["name"]
    require(0 <= seed < 2**32, "seed", seed, "use an integer from 0 to 4294967295")
    require(
        threads is None or 0 < threads <= _MOST_THREADS,
        "threads",
        threads,
        f"use 1 to {_MOST_THREADS}, or null for torch's own choice",
    )
    require(name.strip() != "", "name", name, "name the run")
    require(
        settings["monitor_mode"] in ("min", "max"),
        "monitor_mode",
        settings["monitor_mode"],
        "use min or max",
    )
    for path, value in _leaves("", settings):
        require(not (isinstance(value, float) and math.isnan(value)), path, value, "use a number")
    for group in _GROUPS:
        for key in settings[group]:
            require(str(key) != "", group, settings[group], "give every entry a name")
    for metric, band in settings["expected"].items():
        _check_band(f"expected.{metric}", band)
    _check_sweep(settings["sweep"])
    _check_trainer(settings["trainer"], settings["mode"] == "train")


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{path}.{key}".lstrip("."), part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(f"{path}[{index}]", part)
    else:
        yield path, value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_band(path: str, band: Any) -> None:
    right = isinstance(band, Sequence) and len(band) == 2 and all(map(_is_number, band))
    require(right and band[0] <= band[1], path, band, "use [lowest, highest]")


def _check_sweep(sweep: Mapping[str, Any]) -> None:
    for key, value in sweep.items():
        if key not in _SWEEP:
            raise unknown("key of sweep", key, _SWEEP)
        if key == "interval":
            if not isinstance(value, str) or value not in INTERVALS:
                raise unknown("sweep.interval", value, INTERVALS)
        else:
            right = value is None or isinstance(value, Mapping)
            require(right, f"sweep.{key}", value, "use {NAME: VALUE} or null")


def _check_trainer(trainer: Mapping[str, Any], training: bool) -> None:
    for key, least in _LEAST.items():
        value = trainer.get(key)
        if _is_number(value):
            right = least <= value < math.inf
            require(right, f"trainer.{key}", value, f"use {least} or more")
    for key in _TRAINS_NOTHING if training else ():
        value = trainer.get(key)
        if _is_number(value):
            require(value != 0, f"trainer.{key}", value, "nothing would be trained")
    every, most = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs")
    if _is_number(every) and _is_number(most) and most > 0:
        require(
            every <= most,
            "trainer.check_val_every_n_epoch",
            every,
            f"validation would never run in trainer.max_epochs={most}",
        )
