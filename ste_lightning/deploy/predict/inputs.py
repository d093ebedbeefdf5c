"""What a network of one or several inputs is called with, from arrays that have their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.steps import Graph, GraphInput, Record, Ref
from ste_lightning.deploy.graph.trees import assembled
from ste_lightning.deploy.predict.files import arrays_in
from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.deploy.predict.samples import Batch, Limits, Samples, open_samples
from ste_lightning.errors import ConfigurationError, require

__all__ = ["called", "info_of", "open_inputs"]


def info_of(network: nn.Module) -> dict[str, Any]:
    """Return what a network says of itself; its graph knows whether it takes whole numbers."""
    info = dict(getattr(network, "info", {}))
    graph = getattr(network, "graph", None)
    types = [given.dtype for given in graph.inputs] if graph is not None else []
    if types == [torch.int64]:
        info.setdefault("input_dtype", "int64")
    return info


def called(network: nn.Module, x: Any) -> Any:
    """Return the output for a batch: one tensor, or arguments by name."""
    return network(**x) if isinstance(x, dict) else network(x)


def open_inputs(
    source: Any,
    network: nn.Module,
    info: Mapping[str, Any],
    *,
    normalize: bool = True,
    limits: Limits | None = None,
) -> Samples:
    """Open what people have for a network: samples of its input, or of each of its inputs by name.

    A name is that of the argument, with what leads to the tensor inside of it (``batch.image``,
    ``pair.0``), or the last part alone. Images among several inputs get the preprocessing, others
    stay as they are. What has no free batch, such as one mask for all samples, goes to every call.

    Args:
        source: as of :func:`~ste_lightning.deploy.predict.samples.open_samples`; or a mapping of
            names to such, or an npz file of arrays with these names. Others in it are left out.
        network: a packed network.
        info: what it says of itself.
        normalize, limits: as of :func:`~ste_lightning.deploy.predict.samples.open_samples`.

    Raises:
        ConfigurationError: for what cannot be read or does not fit, or an input that is missing.
    """
    graph = getattr(network, "graph", None)
    names = _names(graph) if graph is not None else {}
    known = [key for keys in names.values() for key in keys]
    path = Path(source) if isinstance(source, (str, Path)) else None
    if len(names) > 1 and path is not None and path.suffix.lower() == ".npz" and path.is_file():
        source = arrays_in(path, known)
    if isinstance(source, Mapping):
        require(graph is not None, "input", [*source], "the network's inputs have no names before "
                "its first call")  # fmt: skip
        assert graph is not None
        return _opened(source, graph, names, info, normalize, limits)
    if len(names) > 1:
        raise ConfigurationError(
            f"{path or type(source).__name__} cannot be used: the network takes {_said(names)}; "
            "give a dict of arrays, or an npz file of arrays with these names."
        )
    made = Preprocessing.of(info)
    return open_samples(source, made, normalize=normalize, limits=limits, names=known)


def _opened(
    source: Mapping[str, Any],
    graph: Graph,
    names: dict[str, list[str]],
    info: Mapping[str, Any],
    normalize: bool,
    limits: Limits | None,
) -> Samples:
    stated = info.get("preprocessing") or info.get("normalization")
    images = len(graph.inputs) == 1 or any(map(_is_image, graph.inputs))
    require(images or not (stated and normalize), "preprocessing", stated,
            "none of the network's inputs is an image: use normalize=false")  # fmt: skip
    keys = {name: next((k for k in known if k in source), "") for name, known in names.items()}
    missing = [names[name][0] for name, key in keys.items() if not key]
    if missing:
        raise ConfigurationError(
            f"the network takes {_said(names)}: {', '.join(missing)} missing; given are "
            f"{', '.join(map(str, source)) or 'none'}."
        )
    free = {given.name for given in graph.inputs if given.sizes and given.sizes[0] is None}
    parts: dict[str, Samples] = {}
    whole: dict[str, Tensor] = {}
    for given in graph.inputs:
        key = keys[given.name]
        try:
            if free and given.name not in free:
                whole[given.name] = _typed(torch.as_tensor(np.asarray(source[key])), given)
                continue
            own: dict[str, Any] = {"input_shape": list(given.sizes[1:])}
            if len(graph.inputs) == 1 or _is_image(given):
                own = {**info, **own}
            if not given.dtype.is_floating_point:
                own["input_dtype"] = "int64"
            made, span = Preprocessing.of(own), limits if _is_image(given) else None
            parts[given.name] = open_samples(source[key], made, normalize=normalize, limits=span)
        except (ConfigurationError, TypeError) as error:
            raise ConfigurationError(f"input {key!r}: {error}") from error
    sizes = {keys[name]: len(samples) for name, samples in parts.items()}
    require(len(set(sizes.values())) == 1, "input", sizes, "each needs as many samples")
    remarks = [samples.remark for samples in parts.values() if samples.remark]
    left = [str(key) for key in source if key not in keys.values()]
    remarks += [f"no inputs of the network: {', '.join(left)}"] if left else []

    def read(start: int, end: int) -> Batch:
        batches = {name: samples.read(start, end) for name, samples in parts.items()}
        failures: dict[int, str] = {}
        places: dict[str, dict[int, int]] = {}
        for name, batch in batches.items():
            failed = dict(batch.failed)
            here = enumerate(parts[name].names[start:end])
            sound = [i for i, sample in here if sample not in failed]
            places[name] = {i: row for row, i in enumerate(sound)}
            for i in set(range(end - start)) - set(sound):
                failures[i] = f"{keys[name]}: {failed[parts[name].names[start + i]]}"
        kept = [i for i in range(end - start) if i not in failures]
        values = dict(whole)
        for given in graph.inputs if kept else ():
            if given.name in parts:
                rows = [places[given.name][i] for i in kept]
                values[given.name] = _typed(batches[given.name].x[rows], given)
        arguments = assembled(graph.arguments, lambda r: values[r.name], {}) if kept else {}
        called = first.names[start:end]
        why = [(called[i], reason) for i, reason in sorted(failures.items())]
        return Batch([called[i] for i in kept], arguments, why)

    first = next(iter(parts.values()))
    return Samples(first.names, read, "; ".join(remarks))


def _names(graph: Graph) -> dict[str, list[str]]:
    """Return, for each input, the names under which it may be given."""
    found = {ref: path.lstrip("*") for path, ref in _leaves(graph.arguments, "")}
    short = [path.rpartition(".")[2] for path in found.values()]
    names = {}
    for ref, path in found.items():
        last = path.rpartition(".")[2]
        alone = last != path and short.count(last) == 1 and not last.isdecimal()
        names[ref] = [path, last] if alone else [path]
    return names


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, Ref):
        yield path, tree.name
    tree = tree.values if isinstance(tree, Record) else tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(
        tree, (list, tuple)) and not isinstance(tree, Ref) else ()  # fmt: skip
    for key, part in items:
        yield from _leaves(part, f"{path}.{key}" if path else str(key))


def _said(names: dict[str, list[str]]) -> str:
    first = [known[0] for known in names.values()]
    return f"{len(first)} input{'s' * (len(first) > 1)} ({', '.join(first)})"


def _is_image(given: GraphInput) -> bool:
    image = len(given.sizes) == 4 and given.sizes[1] in (1, 3)
    return image and given.dtype.is_floating_point


def _typed(x: Tensor, given: GraphInput) -> Tensor:
    """Return whole numbers and truth values in the type that the network takes."""
    if given.dtype.is_floating_point or given.dtype.is_complex:
        return x
    y = x.to(given.dtype)
    require(torch.equal(y.to(x.dtype), x), "input", str(given.dtype).removeprefix("torch."),
            "the network takes numbers of this type, and they are of another")  # fmt: skip
    return y
