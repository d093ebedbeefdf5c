"""The recipes a command line can see, with their one-line descriptions."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

from ste_lightning.io.paths import CONF, RECIPES

__all__ = [
    "GROUP",
    "describe",
    "listing",
    "names",
    "names_in_lines",
    "recipe_names",
    "search",
    "searched",
]

ENVIRONMENT = "STE_RECIPES"
"""Environment variable with the user's recipe folders, separated as in ``PATH``."""


GROUP = "recipe"
"""The config group under which recipes appear."""

searched: list[Path] = []
"""The folders in use, first come first served; set by :func:`search`."""


def search(config_dir: str | None = None, shipped: Path = RECIPES) -> None:
    """Choose the folders with recipes, the user's own before the shipped ones.

    Args:
        config_dir: the folder of ``--config-dir``; its ``recipe`` subfolder is taken if there is
            one, otherwise the folder itself.
        shipped: the folder of the shipped ones.
    """
    own = [Path(entry) for entry in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if entry]
    if config_dir is not None:
        pack = Path(config_dir) / "recipe"
        own.insert(0, pack if pack.is_dir() else Path(config_dir))
    searched[:] = [*(folder.resolve() for folder in own if folder.is_dir()), shipped]


def _files(folder: Path) -> Iterable[tuple[str, Path]]:
    for file in sorted(folder.rglob("*.yaml")):
        name = file.relative_to(folder).with_suffix("").as_posix()
        # A folder of the user may also hold config groups such as model/; those are no recipes.
        if "/" not in name or not (CONF / name.split("/")[0]).is_dir():
            yield name, file


def names() -> dict[str, Path]:
    """Return recipe name -> file; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in searched:
        for name, file in _files(folder):
            found.setdefault(name, file)
    return found


def describe(file: Path) -> str:
    """Return the first comment line of a recipe, which says what it is for."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and text and not text.startswith("@"):
            return text
        if text and not line.startswith("#"):
            break
    return ""


def listing() -> str:
    """Return one line per recipe: name and description."""
    found = names()
    width = max((len(name) for name in found), default=0)
    return "\n".join(f"  {name:<{width}}  {describe(found[name])}" for name in sorted(found))


def names_in_lines() -> str:
    """Return the names of all recipes, as many in a line of 80 characters as go."""
    return textwrap.fill(
        "  ".join(sorted(names())), width=80, initial_indent="  ", subsequent_indent="  ",
        break_on_hyphens=False,
    )  # fmt: skip


def recipe_names(studies: bool = False) -> tuple[str, ...]:
    """Return the names of the shipped recipes, sorted.

    Args:
        studies: those of ``python -m ste_lightning.study`` instead of ``train``.
    """
    return tuple(sorted(name for name, _ in _files(RECIPES / "study" if studies else RECIPES)
                        if "/" not in name))  # fmt: skip
