"""The idx format of MNIST and its descendants: a header of sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError

__all__ = ["find_idx", "read_idx"]

_BYTES = 8  # the type code of unsigned bytes


def find_idx(folder: Path, names: Sequence[str]) -> Path:
    """Return the file of ``folder`` that has one of the names, as it is or ending in ``.gz``.

    Raises:
        ConfigurationError: where there is none; the message says which file goes where.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ConfigurationError(f"{folder / names[0]}.gz is missing: put that file there")


def read_idx(path: str | Path, dimensions: int) -> Tensor:
    """Read an idx file of unsigned bytes, packed by gzip or not.

    Args:
        path: the file.
        dimensions: 1 for labels, 3 for images.

    Returns:
        uint8, of the sizes in the header: (N,) or (N, height, width).

    Raises:
        ConfigurationError: for a file that is not idx, has other dimensions, or does not hold as
            many bytes as its header says; no more than that is ever read.
    """
    path = Path(path)
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return _read(cast("IO[bytes]", file), path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error


def _read(file: IO[bytes], path: Path, dimensions: int) -> Tensor:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _BYTES:
        raise ConfigurationError(f"{path} is not an idx file of unsigned bytes.")
    if head[3] != dimensions:
        raise ConfigurationError(
            f"{path} has {head[3]} dimensions, expected {dimensions}: images and labels may have "
            "been exchanged."
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise ConfigurationError(f"{path} ends within its header.")
    shape = struct.unpack(f">{dimensions}I", header)
    count, pieces, read = math.prod(shape), [], 0
    while read < count:  # piece by piece: a header may promise more than the file holds
        piece = file.read(min(count - read, 1 << 24))
        if not piece:
            raise ConfigurationError(f"{path} has {read} bytes, its header says {count}.")
        pieces.append(piece)
        read += len(piece)
    if file.read(1):
        raise ConfigurationError(f"{path} has more than the {count} bytes that its header says.")
    data = np.frombuffer(b"".join(pieces), np.uint8).reshape(shape)
    return torch.from_numpy(data.copy())
