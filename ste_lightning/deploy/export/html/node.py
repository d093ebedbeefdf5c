"""Exported pages run by Node, which runs the same JavaScript as a browser."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError

__all__ = ["open_html"]

_SCRIPT = Path(__file__).parent / "in_node.js"


def open_html(path: str | Path) -> Callable[[Tensor], Tensor] | None:
    """Return what runs a page's network on a batch, sample by sample; ``None`` without Node.

    Args:
        path: of the page.

    Raises:
        ConfigurationError: for a network that the page refuses, with its reason.
    """
    found = shutil.which("node")
    return None if found is None else _InNode(found, Path(path))


class _InNode:
    """A process that runs a page's network for as long as this lives."""

    def __init__(self, program: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [program, str(_SCRIPT), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._end = weakref.finalize(self, _ended, self._process)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        said = json.loads(self._out.readline() or '{"refused": "Node does not run it"}')
        if "refused" in said:
            self._end()
            raise ConfigurationError(f"{path} cannot be used: {said['refused']}.")
        self._taken, self._made = said["taken"], said["made"]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the results of a batch."""
        given = x.detach().float().contiguous().numpy().reshape(len(x), -1)
        if given.shape[1] != math.prod(self._taken):
            raise ConfigurationError(
                f"x of shape {tuple(x.shape)} cannot be used: use {self._taken}."
            )
        made = np.empty((len(x), *self._made), np.float32)
        for one, y in zip(given, made, strict=True):
            self._in.write(one.tobytes())
            self._in.flush()
            y[...] = np.frombuffer(self._out.read(y.nbytes), np.float32).reshape(y.shape)
        return torch.from_numpy(made)


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
