"""Export a checkpoint: ``python -m ste_lightning.export ckpt_path=FILE format=NAME out=FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from ste_lightning.io.paths import CONF
from ste_lightning.running.command import refusing, status_of
from ste_lightning.running.hydra_plugins import register

__all__ = ["main"]


@hydra.main(config_path=str(CONF / "export"), config_name="export", version_base="1.3")
def _task(cfg: DictConfig) -> None:
    from ste_lightning.running.exporting import run_export
    from ste_lightning.running.imports import own_folders_on_path

    own_folders_on_path()
    refusing(lambda: run_export(cfg))


def _prepare() -> None:
    from ste_lightning.running.exporting import Schema

    register()
    ConfigStore.instance().store(name="ste_export", node=Schema, provider="ste_lightning")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 when a setting was refused or the export is not exact.
    """
    return status_of(_task, arguments, _prepare)


if __name__ == "__main__":
    sys.exit(main())
