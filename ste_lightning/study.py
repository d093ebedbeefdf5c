"""Studies of the theory: ``python -m ste_lightning.study +recipe=NAME key=value ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from ste_lightning.io.paths import CONF, RECIPES
from ste_lightning.running.command import config_dir, refusing, status_of
from ste_lightning.running.hydra_plugins import register

__all__ = ["main"]


@hydra.main(config_path=str(CONF / "study"), config_name="study", version_base="1.3")
def _task(cfg: DictConfig) -> None:
    from ste_lightning.running.study import study

    refusing(lambda: study(cfg))


def _prepare() -> None:
    from ste_lightning.running.study_schema import Schema

    register(config_dir(sys.argv[1:]), RECIPES / "study")
    ConfigStore.instance().store(name="ste_study", node=Schema, provider="ste_lightning")


def _set_or_added(arguments: Sequence[str]) -> list[str]:
    """Let every argument of the experiment be given, also one that the recipe does not set.

    So ``base.trials=8`` is set or added ("++"); names are checked when cells are made. With
    ``--multirun`` that goes for all settings of a recipe: Hydra first composes what the runs share,
    without the recipe that is swept over, and there is nothing yet that they could override.
    """
    own: tuple[str, ...] = ("base.",)
    if {"--multirun", "-m"} & set(arguments):
        own += ("grid.", "parts.", "table.", "figure.")
    return [f"++{a}" if a.startswith(own) else a for a in arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, 1 when a setting was refused, 130 after Ctrl-C (cells that are done
        are kept).
    """
    given = sys.argv[1:] if arguments is None else arguments
    words = "interrupted; run the same command again to go on"
    return status_of(_task, _set_or_added(given), _prepare, ("recipe",), words)


if __name__ == "__main__":
    sys.exit(main())
