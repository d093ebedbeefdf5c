"""Ctrl-C and SIGTERM: how a run ends when it is told to, and how it goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = ["INTERRUPTED", "TERMINATED", "Progress", "how_to_go_on", "lightning_stops", "terminable"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

TERMINATED = 143
"""Exit status after SIGTERM."""


class Progress(L.Callback):
    """Knows whether training has begun, from when on nothing is removed, and how far it is.

    Attributes:
        begun: whether a first step was about to be taken.
        steps: optimizer steps when training was stopped.
    """

    begun, steps = False, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that steps are about to be taken."""
        self.begun = True

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Note how far training was."""
        self.steps = trainer.global_step


def how_to_go_on(folder: Path) -> str:
    """Return the sentence that names the newest checkpoint of a run, or says there is none."""
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return f"To go on: resume={folder}"
    found = sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        return "There is no checkpoint yet: start again."
    return f"To go on, repeat the command with ckpt_path={found[-1]}"


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the process with status 143 by an exception, so that files are cleaned up."""
    with _handler(_end):
        yield


@contextmanager
def lightning_stops() -> Iterator[None]:
    """Let Lightning end what it is at after the current batch; its own ways out become ours.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: with status 143 after SIGTERM.
    """
    try:
        # Lightning would call another handler at once, in the middle of a step.
        with _handler(signal.SIG_DFL):
            yield
    except SIGTERMException:
        raise SystemExit(TERMINATED) from None
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def _handler(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
