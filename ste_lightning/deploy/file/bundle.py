"""What is small shares few entries of the file, and text and thresholds are compressed.

An entry of a safetensors header takes a hundred bytes, as much as a batch norm of six channels.
So small tensors lie one after another in one tensor per type, and a compressed table of contents
names them. Thresholds of quantizers are kept as what they differ by from equally spaced ones, in
units of the last place, which is nothing or little.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.deploy.file.tensor_file import DTYPES, NAMES
from ste_lightning.errors import ConfigurationError

__all__ = ["bundled", "unbundled"]

_CONTENTS, _LINES, _SMALL = "bundle/contents", "bundle/thresholds", "bundle/small/"
_SMALL_BYTES = 2048
_FEWEST = 15  # thresholds in a row
_LONGEST_TEXT = 32 << 20
_MOST_THRESHOLDS = 4 << 20
_MOST_DIMENSIONS = 8

Named = dict[str, Tensor]
Shape = tuple[int, ...]


def bundled(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[Named, dict[str, str]]:
    """Return tensors and metadata of which the small ones and ``network`` are bundled.

    Args:
        tensors: name -> tensor.
        metadata: strings; ``network`` is compressed.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    lines = {name: tensor for name, tensor in sorted(plain.items()) if _is_line(name, tensor)}
    if sum(tensor.numel() for tensor in lines.values()) > _MOST_THRESHOLDS:
        lines = {}
    small: dict[str, list[tuple[str, Shape]]] = {}
    found: Named = {}
    for name, tensor in sorted(plain.items()):
        if name in lines:
            continue
        if tensor.numel() * tensor.element_size() >= _SMALL_BYTES:
            found[name] = tensor
        else:
            small.setdefault(NAMES[tensor.dtype], []).append((name, tuple(tensor.shape)))
    for dtype, entries in small.items():
        found[_SMALL + dtype] = torch.cat([plain[name].reshape(-1) for name, _ in entries])
    if lines:
        coded = np.concatenate([_differences(t.float().numpy()).ravel() for t in lines.values()])
        # The bytes of one significance together: all but the lowest ones are alike.
        found[_LINES] = _bytes(coded.view(np.uint8).reshape(-1, 4).T.tobytes())
    table = {
        "small": small,
        "thresholds": [[name, NAMES[t.dtype], tuple(t.shape)] for name, t in lines.items()],
    }
    text = json.dumps(table, separators=(",", ":")) + "\n" + metadata.get("network", "")
    found[_CONTENTS] = _bytes(text.encode())
    return found, {key: value for key, value in metadata.items() if key != "network"}


def unbundled(tensors: Named, metadata: dict[str, str]) -> tuple[Named, dict[str, str]]:
    """Undo :func:`bundled`; what is not bundled is returned as it is.

    Raises:
        ConfigurationError: for a bundle that is not what it claims to be.
    """
    if _CONTENTS not in tensors:
        return tensors, metadata
    found = dict(tensors)
    head, _, network = _text(found.pop(_CONTENTS), _LONGEST_TEXT).partition(b"\n")
    try:
        table, text = json.loads(head), network.decode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _wrong("its table of contents is not JSON") from error
    if not isinstance(table, dict) or set(table) != {"small", "thresholds"}:
        raise _wrong("its table of contents is not one")
    for dtype, entries in _mapping(table["small"]).items():
        data = found.pop(_SMALL + str(dtype), None)
        if data is None or data.dim() != 1 or NAMES[data.dtype] != dtype:
            raise _wrong(f"its small tensors of {dtype!r} are missing")
        _place(found, list(_entries(entries, 2)), data)
    _place_lines(found, list(_entries(table["thresholds"], 3)), found.pop(_LINES, None))
    left = [name for name in found if name.startswith("bundle/")]
    if left:
        raise _wrong(f"{left[0]!r} is not in its table of contents")
    return found, {**metadata, "network": text}


def _place(found: Named, entries: list[Any], data: Tensor) -> None:
    """Add the tensors that lie in ``data`` one after another."""
    sizes = [math.prod(shape) for _, shape in entries]
    if sum(sizes) != data.numel():
        raise _wrong("its small tensors have another size than its table of contents says")
    for (name, shape), part in zip(entries, torch.split(data, sizes), strict=True):
        _add(found, name, part.clone().view(shape))


def _place_lines(found: Named, entries: list[Any], data: Tensor | None) -> None:
    count = sum(math.prod(shape) for _, _, shape in entries)
    if (data is None) != (count == 0) or count > _MOST_THRESHOLDS:
        raise _wrong("its thresholds are missing")
    if data is None:
        return
    raw = _text(data, 4 * count)
    if len(raw) != 4 * count:
        raise _wrong("its thresholds have another size than its table of contents says")
    planes = np.frombuffer(raw, np.uint8).reshape(4, -1)
    coded = np.ascontiguousarray(planes.T).view(np.int32).ravel()
    at = 0
    for name, dtype, shape in entries:
        size = math.prod(shape)
        if dtype not in ("F32", "F16") or not shape or shape[-1] < _FEWEST:
            raise _wrong(f"{name!r} does not hold thresholds")
        values = torch.from_numpy(_sums(coded[at : at + size].reshape(shape)))
        _add(found, name, values.to(DTYPES[dtype]))
        at += size


def _add(found: Named, name: str, tensor: Tensor) -> None:
    if name in found:
        raise _wrong(f"the tensor {name!r} is there twice")
    found[name] = tensor


def _is_line(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor holds rows of rising thresholds that compress well."""
    if not name.endswith("thresholds") or tensor.dtype not in (torch.float32, torch.float16):
        return False
    if tensor.dim() == 0 or tensor.shape[-1] < _FEWEST or not bool(torch.isfinite(tensor).all()):
        return False
    values = tensor.float().numpy()
    coded = _differences(values)
    exact = np.array_equal(_sums(coded).view(np.int32), values.view(np.int32))
    near = float((np.abs(coded[..., 1:-1].astype(np.int64)) < 128).mean())
    return exact and near > 0.9


def _line(first: NDArray[Any], last: NDArray[Any], count: int) -> NDArray[Any]:
    """Return equally spaced float32 numbers per row, by float64 operations one at a time."""
    step = (last.astype(np.float64) - first.astype(np.float64)) / (count - 1)
    rise = step[..., None] * np.arange(count, dtype=np.float64)
    made: NDArray[Any] = (first.astype(np.float64)[..., None] + rise).astype(np.float32)
    return made


def _differences(values: NDArray[Any]) -> NDArray[Any]:
    """Return the bits of each row's ends, and between them what the bits differ from a line's."""
    bits = np.ascontiguousarray(values).view(np.int32)
    with np.errstate(over="ignore"):
        coded = bits - _line(values[..., 0], values[..., -1], values.shape[-1]).view(np.int32)
    coded[..., 0], coded[..., -1] = bits[..., 0], bits[..., -1]
    found: NDArray[Any] = coded
    return found


def _sums(coded: NDArray[Any]) -> NDArray[Any]:
    """Undo :func:`_differences`."""
    ends = np.ascontiguousarray(coded[..., [0, -1]]).view(np.float32)
    if not np.isfinite(ends).all():
        raise _wrong("a threshold is not finite")
    with np.errstate(over="ignore"):
        bits = coded + _line(ends[..., 0], ends[..., 1], coded.shape[-1]).view(np.int32)
    bits[..., 0], bits[..., -1] = coded[..., 0], coded[..., -1]
    found: NDArray[Any] = bits.view(np.float32)
    return found


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(zlib.compress(data, 9)), dtype=torch.uint8)


def _text(data: Tensor, most: int) -> bytes:
    """Return what was compressed, at most ``most`` bytes."""
    if data.dtype != torch.uint8 or data.dim() != 1:
        raise _wrong("its compressed part is not one of bytes")
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data.numpy().tobytes(), most + 1)
    except zlib.error as error:
        raise _wrong("its compressed part is damaged") from error
    if len(found) > most or not unpacker.eof or unpacker.unused_data:
        raise _wrong("its compressed part has another size than it should")
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("its table of contents is not a mapping")
    return value


def _entries(value: Any, length: int) -> Iterator[tuple[Any, ...]]:
    """Yield what a list of (name, ..., shape) holds, checked."""
    if not isinstance(value, list):
        raise _wrong("its table of contents holds no list")
    for entry in value:
        if not isinstance(entry, list) or len(entry) != length:
            raise _wrong("an entry of its table of contents is not sound")
        *names, shape = entry
        sizes = isinstance(shape, list) and len(shape) <= _MOST_DIMENSIONS
        sizes = sizes and all(type(n) is int and 0 <= n < 1 << 32 for n in shape)
        if not sizes or not all(isinstance(name, str) for name in names):
            raise _wrong("an entry of its table of contents is not sound")
        yield (*names, tuple(shape))


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"it is not a sound packed file: {reason}.")
