"""Reading and writing of safetensors files, with every number checked.

The format: eight bytes with the header's length, a JSON header (name -> dtype, shape, begin and
end of the data; ``__metadata__`` with strings), then the data. The safetensors package reads it;
it is written here, since that package puts the strings in another order each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import written_whole

__all__ = ["DTYPES", "NAMES", "read", "write"]

DTYPES = {
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_HEADER = 32 << 20
_MOST_DIMENSIONS = 8


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: where to; a file there is replaced.
        tensors: name -> tensor.
        metadata: strings to keep in the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    # Wide elements first, so that each tensor is aligned to its element.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + _size(tensor)],
        }
        at += _size(tensor)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in ordered:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file; the memory used is that of the file.

    Returns:
        The tensors and the metadata.

    Raises:
        ConfigurationError: for a file that is missing, truncated or not what it claims to be.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return _parse(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"it is not a sound safetensors file: {reason}.")


def _parse(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    if data[:4] == b"PK\x03\x04":
        raise ConfigurationError(
            "it is a zip archive, perhaps a checkpoint: pack it with "
            "python -m ste_lightning.export ckpt_path=FILE."
        )
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _LONGEST_HEADER):
        raise _wrong(f"its header would have {length:.3g} of {len(data)} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_distinct)
        tensors = safetensors.torch.load(data)
    except (ValueError, RecursionError) as error:
        raise _wrong("its header is not JSON") from error
    except (safetensors.SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise _wrong(str(error)) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES or tensor.dim() > _MOST_DIMENSIONS:
            raise _wrong(f"{name!r} is {tensor.dtype} {tuple(tensor.shape)}")
    return tensors, header.get("__metadata__", {})


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping; readers that take the first or the last of two equal keys would differ."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _wrong("its header has a key twice")
    return made
