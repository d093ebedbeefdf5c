"""A packed network from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.file.graph_schema import rebuild_graph
from ste_lightning.deploy.file.save import FORMAT, VERSION, checksum
from ste_lightning.deploy.file.schema import build, check_tensors, typed
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import ConfigurationError, require

__all__ = ["load"]

_DEEPEST = 64
_COMPLEX = {"complex64": torch.float32, "complex128": torch.float64}


def load(path: str | Path) -> PackedNetwork:
    """Read a packed network; everything is checked and nothing in the file is executed.

    Args:
        path: a file that :func:`~ste_lightning.deploy.save` wrote, of this version or an earlier.

    Returns:
        The network, on the CPU, ready to be called. Its ``info`` holds what was saved with it.

    Raises:
        ConfigurationError: for a missing, truncated, changed or foreign file, one of a later
            version, and one whose graph or tensors do not fit together.
    """
    arrays, metadata = tensor_file.read(Path(path))
    try:
        return _network(*unbundled(arrays, metadata))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path} cannot be used: it nests too deeply.") from error


def _network(arrays: dict[str, Tensor], metadata: dict[str, str]) -> PackedNetwork:
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
    if checksum(arrays, text) != metadata.get("sha256"):
        raise ConfigurationError("its checksum is wrong: it was changed or damaged.")
    if int(version) == 1:
        from ste_lightning.deploy.file.version_1 import loaded

        return loaded(_parsed(text), arrays)
    spec = _parsed(text)
    return _built(spec, _restored(spec, arrays))


def _restored(spec: dict[str, Any], arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they were saved: under all their names, in their types."""
    found = dict(arrays)
    types = typed(spec, "constants", dict)
    for name, tensor in arrays.items():
        wanted = str(types.get(name, "float32"))
        if tensor.dtype == torch.float16 and wanted in ("float32", "complex64"):
            found[name] = tensor = tensor.float()
        if wanted in _COMPLEX:
            pairs = tensor.dtype == _COMPLEX[wanted] and tensor.shape[-1:] == (2,)
            require(pairs, "constant", name, "complex numbers are stored as pairs")
            found[name] = tensor = torch.view_as_complex(tensor)
        if name.startswith("@") and str(tensor.dtype) != f"torch.{wanted}":
            raise ConfigurationError(f"{name!r} is {tensor.dtype}, the architecture says {wanted}.")
    for name, other in typed(spec, "same", dict).items():
        if name in arrays or not isinstance(other, str) or other not in arrays:
            raise ConfigurationError(f"the tensor {name!r} is equal to none.")
        found[name] = found[other]
    return found


def _parsed(text: str) -> dict[str, Any]:
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise ConfigurationError("its architecture is not JSON.") from error
    if not isinstance(spec, dict):
        raise ConfigurationError("the architecture is not a mapping.")
    return spec


def _built(spec: dict[str, Any], tensors: dict[str, Tensor]) -> PackedNetwork:
    graph = rebuild_graph(spec)
    with torch.device("meta"):
        layers = {name: build(name, one) for name, one in typed(spec, "layers", dict).items()}
    info = typed(spec, "info", dict)
    wanted = {
        f"{name}.{key}": value
        for name, layer in layers.items()
        for key, value in layer.state_dict().items()
    }
    check_tensors(wanted, {k: v for k, v in tensors.items() if not k.startswith("@")})
    root = layers[""] if "" in layers else nn.Module()
    for name, layer in layers.items():
        own = {key: tensors[f"{name}.{key}"] for key in layer.state_dict()}
        layer.load_state_dict(own, assign=True)
        if name:
            _put(root, name, layer)
    constants = {key[1:]: value for key, value in tensors.items() if key.startswith("@")}
    for name, value in constants.items():
        if value.is_floating_point() and bool(value.isnan().any()):
            raise ConfigurationError(f"{name!r} holds a number that is not finite: NaN.")
        _put(root, name, value)
    network = PackedNetwork(root.eval(), graph, info=info)
    unused = sorted({*constants, *layers} - {*graph.constants(), *graph.layers()})
    if unused:
        raise ConfigurationError(f"the architecture has no tensor or layer {unused[0]!r}.")
    return network


def _put(root: nn.Module, name: str, value: nn.Module | Tensor) -> None:
    """Put a module or tensor at its place in a tree of modules."""
    *path, last = name.split(".")
    if len(path) > _DEEPEST:
        raise ConfigurationError(f"the name {name[:80]!r} has too many parts.")
    at = root
    try:
        for part in path:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            inner = at._modules[part]
            assert inner is not None
            at = inner
        if isinstance(value, Tensor):
            at.register_buffer(last, value)
        elif last in at._modules and type(at._modules[last]) is nn.Module:
            raise KeyError(last)
        else:
            at.add_module(last, value)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ConfigurationError(f"the name {name[:80]!r} cannot be used: {error}") from error
