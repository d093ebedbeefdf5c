"""A packed network in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ste_lightning
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import bundled
from ste_lightning.deploy.file.graph_schema import describe_graph
from ste_lightning.deploy.file.schema import describe
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import inferred_sample
from ste_lightning.errors import ConfigurationError, require

__all__ = ["FORMAT", "VERSION", "checksum", "save", "write_spec", "write_text"]

FORMAT = "ste_lightning.packed"
VERSION = 2
_FEWEST = 16  # numbers: smaller tensors are kept however often they are there


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of an architecture's text and of all tensors, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}:{flat.dtype}:{tuple(tensors[name].shape)};".encode())
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(network: nn.Module, path: str | Path) -> int:
    """Write a packed network to one safetensors file, whole or not at all.

    The file holds the packed weights and what stays in float as arrays, and as compressed JSON
    the graph, by names of operators, with the versions and ``network.info``; no code, no pickle.

    Args:
        network: what :func:`~ste_lightning.deploy.pack` returned; where it was not called yet, a
            fitting input is looked for, whose free sizes stay free.
        path: where to write; by custom ``NAME.safetensors``.

    Returns:
        The file's size in bytes.

    Raises:
        ConfigurationError: for anything but a :class:`~ste_lightning.deploy.PackedNetwork`, one
            that cannot be captured, with the line and the reason, or ``info`` that is not plain
            data.
    """
    if not isinstance(network, PackedNetwork):
        raise ConfigurationError(
            f"{type(network).__name__} cannot be saved: save what pack() returned."
        )
    captured(network)
    spec, tensors = contents(network)
    write_spec(spec, tensors, path)
    return Path(path).stat().st_size


def captured(network: PackedNetwork) -> None:
    """Capture a network that has not been called yet, on an input that fits.

    Raises:
        ConfigurationError: where it cannot be captured, or no input fits.
    """
    if network.graph is None and not network.reason:
        network.capture(inferred_sample(network))
    if network.graph is None:
        raise ConfigurationError(
            f"{type(network.module).__name__} cannot be saved: {network.reason} Pack and save the "
            "modules inside it that can be captured."
        )


def contents(network: PackedNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the plain description and the tensors of a network that is captured."""
    assert network.graph is not None
    layers = network.layers()
    spec = {
        "layers": {name: describe(layer) for name, layer in layers.items()},
        **describe_graph(network.graph),
        "info": network.info,
    }
    tensors = {
        f"{name}.{key}": value
        for name, layer in layers.items()
        for key, value in layer.state_dict().items()
    }
    for name, value in network.constants().items():
        if value.is_floating_point() and bool(value.isnan().any()):
            raise ConfigurationError(f"{name!r} holds a number that is not finite: NaN.")
        tensors[f"@{name}"] = value
    return spec, tensors


def write_spec(
    spec: dict[str, Any],
    tensors: Mapping[str, Tensor],
    path: str | Path,
) -> None:
    """Write a description and its tensors, with the right checksum.

    Args:
        spec: of a network.
        tensors: of its layers and constants.
        path: where to write.

    Raises:
        ConfigurationError: for a description that is not plain data.
    """
    kept, same = _distinct(tensors)
    types = {
        name: str(t.dtype).removeprefix("torch.") for name, t in kept.items() if name[0] == "@"
    }
    whole = {**spec, "constants": types, "same": same}
    try:
        text = json.dumps(whole, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"info cannot be saved: {error}; use plain data.") from error
    plain = json.loads(text).get("info") == spec.get("info")
    require(plain, "info", spec.get("info"), "use lists, strings and numbers only")
    stored = {
        name: torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
        for name, t in kept.items()
    }
    write_text(text, stored, path)


def write_text(
    text: str,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an architecture's text and tensors, with the right checksum.

    Args:
        text: JSON.
        tensors: by name.
        path: where to write.
        metadata: in the place of the usual.
    """
    stored = {name: _narrowed(tensor.detach()) for name, tensor in tensors.items()}
    found = {
        "format": FORMAT,
        "version": str(VERSION),
        "made_with": f"ste_lightning {ste_lightning.__version__}, torch {torch.__version__}",
        **(metadata or {}),
        "network": text,
        "sha256": checksum(stored, text),
    }
    tensor_file.write(Path(path), *bundled(stored, found))


def _narrowed(tensor: Tensor) -> Tensor:
    """Return a float32 tensor in float16 if that loses nothing."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors without those equal to an earlier one, and the names of these."""
    kept: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel() < _FEWEST:
            kept[name] = tensor
            continue
        what = f"{flat.dtype}{tuple(tensor.shape)}".encode()
        key = hashlib.sha256(what + flat.view(torch.uint8).numpy().tobytes()).digest()
        if key in seen:
            same[name] = seen[key]
        else:
            seen[key], kept[name] = name, tensor
    return kept, same
