"""Proof that what was captured computes what its module computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.trees import tensors_in
from ste_lightning.errors import ConfigurationError

__all__ = ["largest", "prove"]


def largest(values: Tensor) -> float:
    """Return the largest finite magnitude, at least 1e-30."""
    finite = values.double().abs()
    finite = finite[torch.isfinite(finite)]
    return max(float(finite.max()) if finite.numel() else 0.0, 1e-30)


def _close(wanted: list[Tensor], found: list[Tensor]) -> bool:
    """Return whether results are equal but for rounding."""
    return len(wanted) == len(found) and all(
        a.shape == b.shape
        and torch.allclose(
            b.double(), a.double(), rtol=1e-4, atol=1e-4 * largest(a), equal_nan=True
        )
        for a, b in zip(wanted, found, strict=True)
    )


def prove(
    layers: Mapping[str, nn.Module],
    module: Callable[[], Any],
    graph: Callable[[], Any],
    unfused: Callable[[], Any],
) -> None:
    """Compare a graph's results with its module's.

    Where rounding turns a tie, whole sums differ; so where results differ, the graph is run
    again with the results of the module's own layers.

    Args:
        layers: the packed layers that the graph calls, by name.
        module: computes what is wanted.
        graph: computes the same by the graph.
        unfused: as that, but calls the layers one by one as modules.

    Raises:
        ConfigurationError: where they differ by more than rounding.
    """
    calls: dict[str, list[Tensor]] = {name: [] for name in layers}

    def record(name: str, result: Tensor) -> None:
        calls[name].append(result)

    wanted = tensors_in(_hooked(layers, record, module))
    if _close(wanted, tensors_in(graph())):
        return

    def replay(name: str, result: Tensor) -> Tensor:
        return calls[name].pop(0) if calls[name] else result

    if not _close(wanted, tensors_in(_hooked(layers, replay, unfused))):
        raise ConfigurationError(
            "what was captured differs from the module: its forward depends on more than its "
            "arguments."
        )


def _hooked(
    layers: Mapping[str, nn.Module], act: Callable[[str, Tensor], Any], call: Callable[[], Any]
) -> Any:
    """Call something with a hook on every packed layer, which may replace its result."""
    handles = [
        layer.register_forward_hook(lambda m, given, y, name=name: act(name, y))
        for name, layer in layers.items()
    ]
    try:
        return call()
    finally:
        for handle in handles:
            handle.remove()
