"""Checkpoints that are whole or not there, whatever stops the run that writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ste_lightning.io.whole_file import written_whole

__all__ = ["WholeCheckpoints"]


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and then moves it there.

    The earlier checkpoint of that name stays until the new one is complete: a full disk or a
    killed process costs the new one alone. Lightning writes into the system's folder for
    temporary files, from where large files are copied rather than moved. Addresses such as
    ``s3://bucket/file`` are left to Lightning.

    Raises:
        ConfigurationError: where a checkpoint cannot be written, with the reason.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_whole(path) as part, part.open("wb") as file:
            torch.save(checkpoint, file)
