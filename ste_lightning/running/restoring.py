"""A trained model and its data, from a checkpoint and the config of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.running.build import build, build_model
from ste_lightning.running.checkpoints import explained, loadable
from ste_lightning.running.imports import import_own
from ste_lightning.running.reading import read_yaml

__all__ = ["evaluation_samples", "restored"]


def restored(ckpt_path: str, config: str | None) -> tuple[L.LightningModule, Any]:
    """Return the model with the checkpoint's weights, in eval mode, and the run's data module.

    Args:
        ckpt_path: the checkpoint.
        config: the run's config.yaml; None: the one beside the checkpoint or a folder above it.

    Raises:
        ConfigurationError: for files that are missing or do not fit each other.
    """
    checkpoint = Path(str(loadable(ckpt_path, needed=True)))
    beside = [checkpoint.parent / "config.yaml", checkpoint.parent.parent / "config.yaml"]
    found = [Path(config)] if config else [path for path in beside if path.is_file()]
    require(
        bool(found) and found[0].is_file(),
        "config",
        config,
        "name the config.yaml of the run that wrote the checkpoint",
    )
    run = read_yaml(found[0], "model", "data")
    whole = bool(run["model"]) and bool(run["data"])
    require(whole, "config", str(found[0]), "its model and data are empty")
    import_own(run.get("imports") or [])
    data = build("data", run["data"])
    model: L.LightningModule = build_model("model", run["model"], L.LightningModule)
    state = read_checkpoint(checkpoint)["state_dict"]
    with explained(str(checkpoint), model):
        model.load_state_dict(state)
    return model.eval(), data


def evaluation_samples(data: Any, count: int) -> Tensor:
    """Return up to ``count`` inputs of the data module's test part.

    Raises:
        ConfigurationError: where that is empty.
    """
    data.prepare_data()
    data.setup("test")
    batches: list[Tensor] = []
    for batch in data.test_dataloader():
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
        batches.append(inputs)
        if sum(map(len, batches)) >= count:
            break
    require(bool(batches), "data", type(data).__name__, "its test part is empty")
    return torch.cat(batches)[:count]
