"""A packed network in one file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import ste_lightning
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import bundled
from ste_lightning.deploy.file.schema import describe
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import ConfigurationError, require

__all__ = ["FORMAT", "VERSION", "checksum", "save"]

FORMAT = "ste_lightning.packed"
VERSION = 2


def checksum(tensors: dict[str, Tensor], text: str) -> str:
    """Return the SHA-256 of an architecture's text and of all tensors, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}:{flat.dtype}:{tuple(tensors[name].shape)};".encode())
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _narrowed(tensor: Tensor) -> Tensor:
    """Return a float32 tensor in float16 if that loses nothing, as for thresholds."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def save(network: nn.Module, path: str | Path) -> int:
    """Write a packed network to one safetensors file, whole or not at all.

    The file holds the packed weights, what stays in float, and a JSON header with the
    architecture, the versions and ``network.info``; no code and no pickle.

    Args:
        network: what :func:`~ste_lightning.deploy.pack` returned.
        path: where to write; by custom ``NAME.safetensors``.

    Returns:
        The file's size in bytes.

    Raises:
        ConfigurationError: for anything but a :class:`~ste_lightning.deploy.PackedNetwork`, or
            ``info`` that is not plain data.
    """
    if not isinstance(network, PackedNetwork):
        raise ConfigurationError(
            f"{type(network).__name__} cannot be saved: only what pack() could trace describes "
            "itself; pack the traceable networks inside it one by one."
        )
    spec = describe(network)
    try:
        text = json.dumps(spec, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"info cannot be saved: {error}; use plain data.") from error
    require(json.loads(text) == spec, "info", network.info, "use lists, strings and numbers only")
    tensors = {
        name: _narrowed(value)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "made_with": f"ste_lightning {ste_lightning.__version__}",
        "network": text,
        "sha256": checksum(tensors, text),
    }
    target = Path(path)
    tensor_file.write(target, *bundled(tensors, metadata))
    return target.stat().st_size
