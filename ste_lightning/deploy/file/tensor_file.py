"""Reading and writing of safetensors files, with every number checked.

The format: eight bytes with the header's length, a JSON header (name -> dtype, shape, begin and
end of the data; ``__metadata__`` with strings), then the data. Written here rather than taken
from the safetensors package, so that a packed file needs torch alone; that package reads it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    if len(data) < 8:
        raise _wrong(f"it has {len(data)} bytes")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _LONGEST_HEADER):
        raise _wrong(f"its header would have {length:.3g} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _wrong("its header is not JSON") from error
    if not isinstance(header, dict):
        raise _wrong("its header is not a mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _wrong("its metadata are not strings")
    body = bytearray(data[8 + length :])
    at = 0
    tensors: dict[str, Tensor] = {}
    for name, entry in sorted(header.items(), key=lambda item: _begin(item[1])):
        dtype, shape, begin, end = _entry(name, entry)
        if begin != at or end > len(body):
            raise _wrong(f"the data of {name!r} do not follow those before, or the file is cut")
        at = end
        tensors[name] = _tensor(body, begin, end, dtype, shape)
    if at != len(body):
        raise _wrong(f"{len(body) - at} bytes belong to no tensor")
    return tensors, metadata


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping; readers that take the first or the last of two equal keys would differ."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _wrong("its header has a key twice")
    return made


def _tensor(
    body: bytearray, begin: int, end: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(body, dtype=torch.uint8, count=end - begin, offset=begin)
    return raw.clone().view(dtype).view(shape)


def _begin(entry: Any) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    first = offsets[0] if isinstance(offsets, list) and offsets else 0
    return first if isinstance(first, int) else 0


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _entry(name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _wrong(f"the entry {name!r} is not one of a tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _wrong(f"{name!r} has the unknown type {dtype!r}")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(map(_natural, shape))
    ):
        raise _wrong(f"{name!r} has no sound shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise _wrong(f"{name!r} has no sound offsets")
    begin, end = offsets
    kind = DTYPES[dtype]
    if end - begin != math.prod(shape) * kind.itemsize:
        raise _wrong(f"{name!r} of shape {shape} does not take {end - begin} bytes")
    return kind, tuple(shape), begin, end
