"""What an export is asked for, and what writers of files and runtimes share."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only

from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.errors import ConfigurationError

__all__ = ["MissingPackageError", "Order", "Run", "example_of", "in_batches", "needs", "quiet"]

Run = Callable[..., Any]  # a batch of each input, to a batch of each result


class MissingPackageError(ConfigurationError):
    """A package that is not installed. The message says how to install it."""


@dataclass(frozen=True)
class Order:
    """What an export is asked for.

    Attributes:
        example: a batch of inputs, a tuple of several, or a dict of keywords.
        free: whether the batch size stays free.
        sizes: whether all other sizes do, where the network leaves them so.
        target: ``"onnxruntime"`` for its own operators, too; ``""`` for standard ones.
    """

    example: Any
    free: bool
    target: str = ""
    sizes: bool = False


def example_of(
    network: PackedNetwork, order: Order
) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """Return tensors to export with, and which sizes of theirs are free.

    A batch of one would be taken for a constant: it is doubled.
    """
    graph = network.graph
    assert graph is not None
    args, kwargs = arguments(order.example)
    found = network.inputs(args, kwargs)
    batch = torch.export.Dim("batch", min=1)
    given: list[Tensor] = []
    free: list[dict[int, Any]] = []
    for x, known in zip(found, graph.inputs, strict=True):
        opened = order.free and bool(known.sizes) and known.sizes[0] is None
        others = range(1, len(known.sizes)) if order.sizes else ()
        axes = {i: torch.export.Dim.AUTO for i in others if known.sizes[i] is None}
        free.append({0: batch, **axes} if opened else {})
        if opened:
            x = x[:2] if len(x) >= 2 else x[:1].repeat(2, *[1] * (x.dim() - 1))
        given.append(x)
    return tuple(given), tuple(free)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's exporters from reporting what concerns only their authors."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def needs(*packages: str) -> None:
    """Refuse what cannot be done without a package.

    Raises:
        MissingPackageError: with the command that installs it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"this format needs the package {package}: pip install {' '.join(packages)}"
            )


def in_batches(run: Run, size: int | None) -> Run:
    """Return what runs any number of samples by batches of one size; the last one is filled."""
    if size is None:
        return run

    def one(*parts: Tensor) -> Any:
        fill = size - len(parts[0])
        whole = [torch.cat([x, x.new_zeros(fill, *x.shape[1:])]) for x in parts]
        return tree_map_only(Tensor, lambda y: y[: len(parts[0])], run(*whole))

    def all_of(*inputs: Tensor) -> Any:
        made = [one(*parts) for parts in zip(*(torch.split(x, size) for x in inputs), strict=True)]
        return tree_map(lambda *ys: torch.cat(ys), *made)

    return all_of
