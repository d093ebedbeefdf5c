"""Follow the ReLUs of a network through its symbolic trace."""

from __future__ import annotations

import torch.fx
from torch import nn

from ste_lightning.convert.nonnegative import (
    Origins,
    Source,
    is_relu,
    is_relu_name,
    joined,
    keeps_sign,
)
from ste_lightning.convert.structure import Structure
from ste_lightning.convert.unchanged import unchanged

__all__ = ["trace"]


class _Tracer(torch.fx.Tracer):
    """Traces through everything but the given modules."""

    def __init__(self, leaves: set[nn.Module]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module is taken as one node."""
        return m in self.leaves or super().is_leaf_module(m, module_qualified_name)


def trace(
    prefix: str,
    module: nn.Module,
    layers: set[nn.Module],
    opaque: set[nn.Module],
    structure: Structure,
) -> None:
    """Trace ``module``; where that fails, its children, and then it again with them opaque."""
    if module in layers:
        structure.enter(prefix, frozenset())
        return
    if "_orig_mod" in module._modules:  # torch.compile's wrapper
        trace(prefix, module.get_submodule("_orig_mod"), layers, opaque, structure)
        opaque.add(module)
        return
    graph = _graph(module, layers | opaque)
    if graph is None:
        for name, child in module.named_children():
            trace(f"{prefix}.{name}" if prefix else name, child, layers, opaque, structure)
        graph = _graph(module, layers | opaque)
    if graph is None:
        opaque.add(module)
        return
    _follow(prefix, module, graph, layers, structure)


def _graph(module: nn.Module, leaves: set[nn.Module]) -> torch.fx.Graph | None:
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return None
    try:
        with unchanged(module):  # what a forward assigns or adds to them is no symbol
            return _Tracer(leaves - {module}).trace(module)
    except Exception:  # whatever a user's forward raises on symbols: it is opaque to us
        return None


def _follow(
    prefix: str,
    module: nn.Module,
    graph: torch.fx.Graph,
    layers: set[nn.Module],
    structure: Structure,
) -> None:
    """Carry the origins through a traced graph."""
    origins: dict[torch.fx.Node, Origins] = {}
    channels: dict[torch.fx.Node, int | None] = {}

    def full(name: str) -> str:
        return f"{prefix}.{name}" if prefix and name else prefix or name

    for node in graph.nodes:
        inputs = node.all_input_nodes
        arriving = joined(origins.get(i) for i in inputs)
        size = channels.get(inputs[0]) if inputs else None
        result: Origins = frozenset()
        if node.op == "call_module":
            target = module.get_submodule(node.target)
            if is_relu(target):
                result = frozenset({Source(full(node.target), True, size)})
            elif target in layers:
                structure.enter(full(node.target), arriving)
            elif keeps_sign(target):
                result = arriving
            for attribute in ("num_features", "out_channels", "out_features"):
                size = getattr(target, attribute, size)
        elif node.op in ("call_function", "call_method"):
            name = getattr(node.target, "__name__", str(node.target))
            if is_relu_name(name):
                stack = node.meta.get("nn_module_stack") or {}
                owner = next(reversed(stack.values()))[0] if stack else ""
                result = frozenset({Source(full(owner), False, size)})
            elif keeps_sign(name):
                result = arriving
        origins[node], channels[node] = result, size
