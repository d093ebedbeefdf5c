"""Running a packed network's graph: the plan of a call, and what a call must look like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.fusion.plan import fused
from ste_lightning.deploy.graph.plan import Plan, planned
from ste_lightning.deploy.graph.simplify import is_in_place
from ste_lightning.deploy.graph.steps import CONSTANT, Graph, Ref
from ste_lightning.deploy.graph.trees import assembled, float_type, matched
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional.estimator.eager import is_eager

if TYPE_CHECKING:
    from ste_lightning.deploy.graph.network import PackedNetwork

__all__ = ["Execution", "hooks_of", "unfit"]


def hooks_of(module: nn.Module) -> dict[tuple[str, str], OrderedDict[int, Any]]:
    """Return the places where forward hooks of a module and its parts are kept."""
    return {
        (name, kind): getattr(part, kind)
        for name, part in module.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
    }


class Execution:
    """What a call does, derived from the layers as they are.

    Args:
        network: whose it is.
        graph: what is computed.
        layers, constants: of the graph, by name.
        fuse: whether packed layers hand on bits and codes.
        watched: whether layers are called as modules.
    """

    def __init__(
        self,
        network: PackedNetwork,
        graph: Graph,
        layers: Mapping[str, nn.Module],
        constants: Mapping[str, Tensor],
        fuse: bool,
        watched: bool,
    ) -> None:
        values = {CONSTANT + name: value for name, value in constants.items()}
        tensors = [*values.values(), *network.module.buffers()]
        device = next((t.device for t in tensors), torch.device("cpu"))
        dtype = float_type(tensors) or torch.float32
        steps: Sequence[Any] = graph.steps
        mutates = any(map(is_in_place, steps))
        calls: dict[str, Any] = {}
        for name, layer in layers.items():
            plain = watched or mutates or not isinstance(layer, Opaque)
            calls[name] = layer if plain else layer.computed
        if not mutates:
            steps, values = planned(steps, values)
        if fuse and not mutates and dtype == torch.float32 and device.type == "cpu":
            steps, found = fused(layers, steps, graph.output, values, network.values, network.folds)
            calls |= {
                name: call.computed if isinstance(call, Opaque) else call
                for name, call in found.items()
                if isinstance(call, Opaque) or not isinstance(call, nn.Module)
            }
        names = [given.name for given in graph.inputs]
        self._plan = Plan(steps, calls, values, names, graph.output, device)
        self._graph, self._classes = graph, network.classes
        self._names = list(graph.arguments)
        trees = list(graph.arguments.values())
        self._simple = len(trees) == 1 and isinstance(trees[0], Ref)
        self._dtypes = [dtype if g.dtype == torch.float32 else g.dtype for g in graph.inputs]
        self._sizes = [
            [(axis, size) for axis, size in enumerate(g.sizes) if size is not None]
            for g in graph.inputs
        ]
        self._ranks = [len(g.sizes) for g in graph.inputs]
        self._one = graph.output if isinstance(graph.output, Ref) else None
        self.actions = self._plan.actions
        self._alone = self._single_layer()
        packed = [layer for layer in layers.values() if isinstance(layer, PackedLayer)]
        self._states = [(layer, layer.state) for layer in packed]
        self._places = []
        for name, layer in layers.items():
            if name:
                owner, _, key = name.rpartition(".")
                self._places.append((network.module.get_submodule(owner)._modules, key, layer))
        self.hooks = [
            found
            for key, found in hooks_of(network.module).items()
            if key not in network.kept_hooks
        ]

    def _single_layer(self) -> PackedLinear | None:
        """Return the layer that is all there is to compute, if it takes rows of any number."""
        if len(self.actions) != 1 or self.actions[0].source != 0 or not self._simple:
            return None
        layer = getattr(self.actions[0].call, "__self__", None)
        if type(layer) is not PackedLinear or self._one is None:
            return None
        rows = self._dtypes == [torch.float32] and self._sizes[0] in ([], [(1, layer.shape[1])])
        whole = self._plan.places[self._one.name] == self.actions[0].result
        return layer if rows and whole else None

    def at_once(self, x: Any) -> Tensor | None:
        """Return the output of a single layer for a few rows; ``None`` where more has to be done.

        Of what :meth:`inputs` and :meth:`result` look at, nothing is left but what may change from
        call to call.
        """
        layer = self._alone
        if layer is None or not isinstance(x, Tensor) or not is_eager(x):
            return None
        small = layer.small()
        if small is None or any(self.hooks) or not self.current():
            return None
        return small(x)

    def current(self) -> bool:
        """Return whether the layers are what they were."""
        for layer, state in self._states:
            if layer.state is not state:
                return False
        for modules, key, module in self._places:  # noqa: SIM110
            if modules.get(key) is not module:
                return False
        return True

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the tensors of a call, ``None`` for one of another form."""
        if self._simple and len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            found = [args[0]]
        else:
            given = dict(zip(self._names, args, strict=False))
            if len(args) > len(self._names) or given.keys() & kwargs.keys():
                return None
            given |= kwargs
            tree = self._graph.arguments
            given = {k: v for k, v in given.items() if not (v is None and k not in tree)}
            found = []
            if given.keys() != tree.keys():
                return None
            if not all(matched(tree[name], given[name], found) for name in tree):
                return None
        for index, x in enumerate(found):
            dtype = self._dtypes[index]
            if x.dtype is not dtype:
                if not (x.is_floating_point() and dtype.is_floating_point):
                    return None
                found[index] = x = x.to(dtype)
            shape = x.shape
            if len(shape) != self._ranks[index]:
                return None
            for axis, size in self._sizes[index]:
                if shape[axis] != size:
                    return None
        return found

    def result(self, inputs: list[Any]) -> Any:
        """Return the output."""
        plan = self._plan
        values = plan.run(inputs)
        if self._one is not None:
            return plan.value(self._one, values)
        return assembled(self._graph.output, lambda ref: plan.value(ref, values), self._classes)


def unfit(graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ConfigurationError:
    """Return the error for arguments that a graph does not take."""
    given = [*map(_form, args), *(f"{key}={_form(value)}" for key, value in kwargs.items())]
    wanted = [f"{name}: {_wanted(tree, graph)}" for name, tree in graph.arguments.items()]
    return ConfigurationError(
        f"the arguments ({', '.join(given)}) cannot be used: the network takes {len(wanted)}: "
        f"{', '.join(wanted)}."
    )


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value) if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _wanted(tree: Any, graph: Graph) -> str:
    if not isinstance(tree, Ref):
        return type(tree).__name__ if isinstance(tree, (dict, list, tuple)) else repr(tree)
    given = next(given for given in graph.inputs if given.name == tree.name)
    sizes = ", ".join("any" if size is None else str(size) for size in given.sizes)
    return f"{str(given.dtype).removeprefix('torch.')} ({sizes})"
