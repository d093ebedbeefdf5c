"""A packed network from its file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.file.save import FORMAT, VERSION, checksum
from ste_lightning.deploy.file.schema import rebuild
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import ConfigurationError

__all__ = ["load"]


def load(path: str | Path) -> PackedNetwork:
    """Read a packed network; everything is checked and nothing in the file is executed.

    Args:
        path: a file that :func:`~ste_lightning.deploy.file.save` wrote.

    Returns:
        The network, on the CPU, ready to be called. Its ``info`` holds what was saved with it.

    Raises:
        ConfigurationError: for a missing, truncated, changed or foreign file, one of a later
            version, and one whose tensors do not fit its architecture.
    """
    tensors, metadata = tensor_file.read(Path(path))
    try:
        return _network(*unbundled(tensors, metadata))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path} cannot be used: it nests too deeply.") from error


def _network(tensors: dict[str, Tensor], metadata: dict[str, str]) -> PackedNetwork:
    if metadata.get("format") != FORMAT:
        raise ConfigurationError(
            "it is not a packed network; export with format=packed, or use deploy.save."
        )
    version = metadata.get("version", "")
    if not version.isdecimal() or len(version) > 9 or int(version) < 1:
        raise ConfigurationError(f"its version is {version!r}.")
    if int(version) > VERSION:
        raise ConfigurationError(
            f"its version is {version}, this package reads up to {VERSION}: update ste-lightning."
        )
    text = metadata.get("network", "")
    if checksum(tensors, text) != metadata.get("sha256"):
        raise ConfigurationError("its checksum is wrong: it was changed or damaged.")
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise ConfigurationError("its architecture is not JSON.") from error
    with torch.device("meta"):
        network = rebuild(spec)
    tensors = _check(network, tensors)
    network.load_state_dict(tensors, strict=False, assign=True)
    for name, buffer in list(network.named_buffers()):
        if buffer.is_meta:  # batch norm's step counter is not kept
            owner, _, key = name.rpartition(".")
            setattr(network.get_submodule(owner), key, torch.zeros((), dtype=buffer.dtype))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def _check(network: PackedNetwork, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in the types of the architecture, which they must fit."""
    expected = {
        name: value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    fitting: dict[str, Tensor] = {}
    for name, value in expected.items():
        if name not in tensors:
            raise ConfigurationError(f"the tensor {name!r} is missing.")
        found = tensors[name]
        if found.dtype == torch.float16 and value.dtype == torch.float32:
            found = found.float()
        if found.shape != value.shape or found.dtype != value.dtype:
            raise ConfigurationError(
                f"{name!r} is {found.dtype} {tuple(found.shape)}, the architecture needs "
                f"{value.dtype} {tuple(value.shape)}."
            )
        if found.is_floating_point() and not bool(torch.isfinite(found).all()):
            raise ConfigurationError(f"{name!r} holds a number that is not finite.")
        fitting[name] = found
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise ConfigurationError(f"the architecture has no tensor {extra[0]!r}.")
    return fitting
