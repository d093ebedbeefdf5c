"""The plan of a results table: which settings are trained, over which seeds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["Goal", "Job", "Plan", "Setting", "read_plan"]

_KEYS = (
    "title",
    "text",
    "metric",
    "seeds",
    "recipe",
    "overrides",
    "small",
    "settings",
    "rivals",
    "goals",
)
_SETTING_KEYS = ("name", "recipe", "overrides", "twin", "teacher")
_GOAL_KEYS = ("setting", "at_least", "within")


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Attributes:
        name: as the table shows it.
        recipe: what is trained.
        overrides: of the recipe, as on the command line.
        twin: the setting that it is compared with, seed by seed; None for none.
        teacher: whether the twin's checkpoint of the same seed teaches it.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    twin: str | None = None
    teacher: bool = False


@dataclass(frozen=True)
class Goal:
    """What a setting's mean should reach.

    Attributes:
        setting: name of the setting.
        at_least: least mean of the metric; None for none.
        within: how far below its twin's mean it may be; None for none.
    """

    setting: str
    at_least: float | None = None
    within: float | None = None


@dataclass(frozen=True)
class Job:
    """One run of a plan."""

    setting: Setting
    seed: int


@dataclass(frozen=True)
class Plan:
    """What a results table holds.

    Attributes:
        path: the plan's file; its table stands beside it, ending in ``.csv``.
        title, text: what the page says above the table.
        metric: what is compared.
        seeds: of every setting.
        settings: lines of the table.
        small: overrides of the small version, which has one seed.
        rivals: pattern of names (``rule *``): these settings are also ranked among themselves.
        goals: what should be reached.
    """

    path: Path
    title: str
    text: str
    metric: str
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    small: tuple[str, ...] = ()
    rivals: str | None = None
    goals: tuple[Goal, ...] = ()

    @property
    def table(self) -> Path:
        """The file of the results."""
        return self.path.with_suffix(".csv")

    @property
    def jobs(self) -> list[Job]:
        """All runs, twins before those that learn from them."""
        order = sorted(self.settings, key=lambda one: one.teacher)
        return [Job(setting, seed) for seed in self.seeds for setting in order]

    def overrides(self, job: Job, teacher: str = "TEACHER") -> list[str]:
        """Return the overrides of a run, without its folder.

        Args:
            job: the run.
            teacher: path of the checkpoint that teaches it.
        """
        return [
            f"+recipe={job.setting.recipe}",
            *job.setting.overrides,
            *((f"teacher={teacher}",) if job.setting.teacher else ()),
            f"seed={job.seed}",
        ]

    def command(self, job: Job) -> str:
        """Return the command line of a run, as one types it."""
        return shlex.join(["python", "-m", "ste_lightning.train", *self.overrides(job)])


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Args:
        path: a YAML file with ``title``, ``text``, ``metric``, ``seeds``, ``recipe``,
            ``overrides`` (of all settings), ``small``, ``settings``, ``rivals`` and ``goals``.

    Raises:
        ConfigurationError: for a file that cannot be read, an unknown key, a twin or a goal's
            setting that is not in the plan.
    """
    try:
        given = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be used: {error}.") from error
    require(isinstance(given, dict), "plan", str(path), "it must be a mapping, see results/")
    assert isinstance(given, dict)
    _known(path, given, _KEYS)
    lines = given.get("settings") or []
    require(bool(lines), "settings", lines, f"name one or more in {path}")
    settings = tuple(_setting(path, one, given) for one in lines)
    names = [one.name for one in settings]
    twice = {name for name in names if names.count(name) > 1}
    require(not twice, "settings", sorted(twice), f"names in {path} must differ")
    for one in settings:
        if one.twin is not None and one.twin not in names:
            raise unknown(f"twin of {one.name!r} in {path}", one.twin, names)
        require(
            not one.teacher or one.twin is not None, "teacher", one.name, "it is the twin: name one"
        )
    rivals = given.get("rivals")
    matching = [name for name in names if fnmatch(name, str(rivals))]
    require(rivals is None or len(matching) > 2, "rivals", rivals, f"match three of {names}")
    goals = tuple(_goal(path, one, names) for one in given.get("goals") or [])
    seeds = tuple(given.get("seeds") or (0,))
    require(all(isinstance(s, int) for s in seeds), "seeds", seeds, "use integers")
    return Plan(
        path,
        title=str(given.get("title", path.stem)),
        text=str(given.get("text", "")).strip(),
        metric=str(given.get("metric", "test/accuracy")),
        seeds=seeds,
        settings=settings,
        small=tuple(given.get("small") or ()),
        rivals=rivals,
        goals=goals,
    )


def _setting(path: Path, given: Any, plan: Mapping[Any, Any]) -> Setting:
    require(isinstance(given, dict) and "name" in given, "settings", given, "each has a name")
    _known(path, given, _SETTING_KEYS)
    recipe = given.get("recipe", plan.get("recipe"))
    require(bool(recipe), "recipe", recipe, f"name the recipe of {given['name']!r} in {path}")
    return Setting(
        str(given["name"]),
        str(recipe),
        (*map(str, plan.get("overrides") or ()), *map(str, given.get("overrides") or ())),
        given.get("twin"),
        bool(given.get("teacher", False)),
    )


def _goal(path: Path, given: Mapping[Any, Any], names: Sequence[str]) -> Goal:
    _known(path, given, _GOAL_KEYS)
    if given.get("setting") not in names:
        raise unknown(f"setting of a goal in {path}", given.get("setting"), names)
    return Goal(str(given["setting"]), given.get("at_least"), given.get("within"))


def _known(path: Path, given: Mapping[Any, Any], keys: Sequence[str]) -> None:
    for key in given:
        if key not in keys:
            raise unknown(f"key in {path}", key, keys)
