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


def _for_every_recipe(arguments: Sequence[str]) -> list[str]:
    """Let plain settings of a recipe be given with ``--multirun``, too.

    Hydra first composes what the runs share, without the recipe that is swept over: there is
    nothing yet that ``base.steps=20`` could override, so it is set or added ("++").
    """
    if not {"--multirun", "-m"} & set(arguments):
        return list(arguments)
    own = ("base.", "grid.", "parts.", "table.", "figure.")
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
    return status_of(_task, _for_every_recipe(given), _prepare, ("recipe",), words)


if __name__ == "__main__":
    sys.exit(main())
