"""Best checkpoints of a training that goes on in another folder than it began in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from ste_lightning.io.whole_file import written_whole

__all__ = ["follow_best"]


def follow_best(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Let every ``ModelCheckpoint`` know what was best so far, although its folder has changed.

    Lightning otherwise forgets it when a run's folder has been moved, or when training goes on
    in a new one, and then takes the next epoch for the best. Files that the new folder lacks are
    copied; what is gone in both stays forgotten.

    Args:
        trainer: about to resume.
        checkpoint: what it resumes from; the states of its callbacks are changed in place.
    """
    states = checkpoint.get("callbacks", {})
    for callback in trainer.checkpoint_callbacks:
        state = states.get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or not state or callback.dirpath is None:
            continue
        new = Path(callback.dirpath)
        if "dirpath" not in state or Path(str(state["dirpath"])) == new:
            continue
        moved = {path: str(new / Path(path).name) for path in _paths(state)}
        if trainer.is_global_zero:
            for old, path in moved.items():
                _bring(
                    Path(path), [Path(old), Path(str(trainer.ckpt_path)).parent / Path(old).name]
                )
        trainer.strategy.barrier("follow_best")
        if not all(Path(path).is_file() for path in moved.values()):
            continue
        state["dirpath"] = callback.dirpath
        state["best_k_models"] = {moved[p]: score for p, score in state["best_k_models"].items()}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = moved.get(state[key], "")


def _paths(state: dict[str, Any]) -> set[str]:
    named = (state["best_model_path"], state["kth_best_model_path"])
    return {*state["best_k_models"], *named} - {""}


def _bring(target: Path, sources: list[Path]) -> None:
    source = next((path for path in sources if path.is_file()), None)
    if source is not None and not target.exists():
        with written_whole(target) as part:
            shutil.copyfile(source, part)
