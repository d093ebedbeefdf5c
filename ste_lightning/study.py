"""Studies of the theory: ``python -m ste_lightning.study +recipe=NAME key=value ...``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.hydra_support import RecipeSearchPath, register
from ste_lightning.paths import CONF, RECIPES
from ste_lightning.running.failures import readable
from ste_lightning.train import _config_dir

__all__ = ["main"]


@hydra.main(config_path=str(CONF / "study"), config_name="study", version_base="1.3")
def _task(cfg: DictConfig) -> None:
    from ste_lightning.theory.studies.command import study

    try:
        study(cfg)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, 1 when a setting was refused, 130 after Ctrl-C (cells that are done
        are kept).
    """
    from ste_lightning.theory.studies.command import Schema

    if arguments is not None:
        sys.argv[1:] = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register(_config_dir(sys.argv[1:]))
    own = [folder for folder in RecipeSearchPath.folders if folder != RECIPES]
    RecipeSearchPath.folders = [*own, RECIPES / "study"]
    ConfigStore.instance().store(name="ste_study", node=Schema, provider="ste_lightning")
    try:
        _task()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        message = readable(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
