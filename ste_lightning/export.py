"""Export a checkpoint: ``python -m ste_lightning.export ckpt_path=FILE format=NAME out=FILE``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.hydra_support import register
from ste_lightning.paths import CONF
from ste_lightning.running.failures import readable

__all__ = ["main"]


@hydra.main(config_path=str(CONF / "export"), config_name="export", version_base="1.3")
def _task(cfg: DictConfig) -> None:
    from ste_lightning.running.exporting import run_export

    try:
        run_export(cfg)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 when a setting was refused or the export is not exact.
    """
    from ste_lightning.running.exporting import Schema

    if arguments is not None:
        sys.argv[1:] = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    ConfigStore.instance().store(name="ste_export", node=Schema, provider="ste_lightning")
    try:
        _task()
    except Exception as error:
        message = readable(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
