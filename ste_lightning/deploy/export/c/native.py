"""Networks in C compiled for this machine, to try them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ste_lightning.deploy.export.c.writer import source_names
from ste_lightning.errors import ConfigurationError

__all__ = ["FLAGS", "open_c"]

FLAGS = ("-std=c99", "-O3", "-march=native", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def open_c(path: str | Path) -> Callable[[Tensor], Tensor] | None:
    """Return what runs a network in C on a batch, sample by sample; ``None`` without a compiler.

    Args:
        path: of the source file.

    Raises:
        ConfigurationError: for sources that the compiler does not take.
    """
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        return None
    name, _ = source_names(path)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "network.so"
        command = [
            found,
            *FLAGS,
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            "-x",
            "c",
            str(path),
            "-lm",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigurationError(f"{path} does not compile: {done.stderr.strip()}")
        function = getattr(ctypes.CDLL(str(library)), name)
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    header = Path(path).with_suffix(".h").read_text(encoding="utf-8")
    taken, shape = (_shape(header, f"{name.upper()}_{end}") for end in ("INPUT", "OUTPUT"))

    def run(x: Tensor) -> Tensor:
        given = x.detach().float().contiguous().numpy().reshape(len(x), -1)
        if given.shape[1] != np.prod(taken):
            raise ConfigurationError(f"x of shape {tuple(x.shape)} cannot be used: use {taken}.")
        made = np.empty((len(x), *shape), np.float32)
        for one, y in zip(given, made, strict=True):
            function(one.ctypes.data, y.ctypes.data)
        return torch.from_numpy(made)

    return run


def _shape(header: str, name: str) -> tuple[int, ...]:
    """Return the shape that the header states beside a size."""
    line = next(line for line in header.splitlines() if line.startswith(f"#define {name} "))
    return tuple(map(int, line.partition("/*")[2].partition("*/")[0].split("x")))
