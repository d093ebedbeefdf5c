"""Train or test from a recipe: ``python -m ste_lightning.train +recipe=NAME key=value ...``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.hydra_support import register
from ste_lightning.paths import CONF
from ste_lightning.running.failures import readable
from ste_lightning.running.files import REFUSAL, write_text
from ste_lightning.running.sweep import Combine

__all__ = ["main"]


@hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")
def _task(cfg: DictConfig) -> float | None:
    from ste_lightning.running.run import run  # --help need not wait for torch

    try:
        return run(cfg)
    except ConfigurationError as error:
        _complain(str(error))
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            # The other runs go on; the combined table will name this one.
            write_text(Path(HydraConfig.get().runtime.output_dir) / REFUSAL, f"{error}\n")
            return None
        raise SystemExit(1) from None


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def _config_dir(arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            return value if equals else next(iter(arguments[index + 1 :]), None)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 when a setting was refused or a run of a sweep failed.
    """
    if arguments is not None:
        sys.argv[1:] = arguments
    # Hydra then raises instead of printing its own message and a hint about this variable.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    Combine.failed = []
    register(_config_dir(sys.argv[1:]))
    try:
        _task()
    except Exception as error:
        message = readable(error)
        if message is None:
            raise
        _complain(message)
        return 1
    return 1 if Combine.failed else 0


if __name__ == "__main__":
    sys.exit(main())
