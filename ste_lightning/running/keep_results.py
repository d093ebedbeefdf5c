"""Results of an earlier run stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ste_lightning.errors import ConfigurationError
from ste_lightning.running import files
from ste_lightning.running.command import complain

__all__ = ["KeepResults", "refuse_to_overwrite"]


def refuse_to_overwrite(folder: Path, ckpt_path: str | None, testing: bool) -> None:
    """Refuse a folder that holds results, unless its own checkpoint is trained on.

    Args:
        folder: where a run is to go.
        ckpt_path: the checkpoint that the run starts from.
        testing: whether it only tests.

    Raises:
        ConfigurationError: if another run's results or checkpoints are there.
    """
    if not files.holds_results(folder):
        return
    if ckpt_path and not testing and Path(ckpt_path).resolve().is_relative_to(folder.resolve()):
        return
    last = folder / "checkpoints" / "last.ckpt"
    more = f", or resume={folder} to go on with it" if last.is_file() and not testing else ""
    raise ConfigurationError(
        f"hydra.run.dir={str(folder)!r} cannot be used: another run's results are there. Name a "
        f"new folder{more}."
    )


class KeepResults(Callback):
    """Hydra callback: looks before Hydra itself writes into the folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse the folder of another run."""
        if config.resume is not None:  # this is its own folder
            return
        folder = Path(config.hydra.run.dir)
        try:
            refuse_to_overwrite(folder, config.ckpt_path, config.mode.value == "test")
        except ConfigurationError as error:
            complain(str(error))
            # Hydra turns other exceptions of its callbacks into warnings.
            raise SystemExit(1) from None
