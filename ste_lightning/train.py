"""Train or test from a recipe: ``python -m ste_lightning.train +recipe=NAME key=value ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.paths import CONF
from ste_lightning.io.whole_file import write_text
from ste_lightning.running.command import complain, config_dir, status_of
from ste_lightning.running.failures import RunError, described
from ste_lightning.running.files import REFUSAL
from ste_lightning.running.hydra_plugins import register
from ste_lightning.running.resuming import expanded
from ste_lightning.running.sweep import Combine

__all__ = ["main"]

GROUPS = (
    "model",
    "data",
    "quantizer",
    "optimizer",
    "trainer",
    "callbacks",
    "logger",
    "launcher",
    "sweeper",
    "recipe",
)


@hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")
def _task(cfg: DictConfig) -> float | None:
    from ste_lightning.running.run import run  # --help need not wait for torch

    try:
        return run(cfg)
    except Exception as error:
        said = str(error) if isinstance(error, (ConfigurationError, RunError)) else described(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            complain(said)
            # The other runs go on; the combined table will name this one.
            write_text(Path(HydraConfig.get().runtime.output_dir) / REFUSAL, f"{said}\n")
            return None
        if not isinstance(error, (ConfigurationError, RunError)):
            raise
        complain(said)
        raise SystemExit(1) from None


def _prepare() -> None:
    Combine.open, Combine.failed = None, False
    register(config_dir(sys.argv[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 when a setting was refused or a run of a sweep failed.
    """
    try:
        given = expanded(sys.argv[1:] if arguments is None else arguments)
    except ConfigurationError as error:
        complain(str(error))
        return 1
    status = status_of(_task, given, _prepare, GROUPS)
    Combine.finish()  # what there is of a sweep that was stopped
    return status or int(Combine.failed)


if __name__ == "__main__":
    sys.exit(main())
