"""A packed network beside the trained model, layer by layer, each given equal inputs."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ste_lightning.convert.structure import clean_name
from ste_lightning.convert.unchanged import unchanged
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.proof import largest
from ste_lightning.deploy.graph.trees import cast, float_type, tensors_in
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer

__all__ = ["Difference", "compared", "require_equal"]


@dataclass(frozen=True)
class Difference:
    """How a layer's results differ.

    Attributes:
        name: the layer's; ``""`` for the network's output.
        kind: its class.
        before: largest difference of its inputs, relative to the largest of them, given equal
            results of all quantized layers before it: what float steps add by rounding.
        result: largest difference of its results, relative to the largest of them, given the
            trained layer's inputs.
        tolerance: what rounding explains, for both.
    """

    name: str
    kind: str
    before: float
    result: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether rounding explains both."""
        return self.before <= self.tolerance and self.result <= self.tolerance


_TOLERANCES = {torch.bfloat16: 5e-2, torch.float16: 5e-3}


@torch.no_grad()
def compared(
    model: nn.Module, network: PackedNetwork, *args: Any, **kwargs: Any
) -> list[Difference]:
    """Return how a packed network differs from the trained model, for each packed layer in order.

    Every packed layer gets the input that the trained one got, and the steps after it go on with
    the trained one's result; so no difference hides another, and a tie that rounding turns does
    not spread. The last row is the network's output. Buffers and the state of random numbers
    are put back.

    Args:
        model: the trained model.
        network: packed from it, here or from a file.
        args, kwargs: a call's.
    """
    dtype = float_type(model.parameters())
    tolerance = max(_TOLERANCES.get(p.dtype, 1e-4) for p in model.parameters())
    with unchanged(model), torch.random.fork_rng(devices=[]):
        trained, names = _recorded(model, network, args, kwargs, dtype)
    given: defaultdict[str, list[Any]] = defaultdict(list)
    for name, x, y in trained[:-1]:
        given[name].append((x, y))
    found: list[Difference] = []
    calls: defaultdict[str, int] = defaultdict(int)
    replacing = _replacing(network, names, given, found, calls, tolerance)
    draws = torch.random.fork_rng(devices=[])  # both draw the same random numbers
    with unchanged(network.module, PackedLayer), draws, replacing:
        output = network(*args, **kwargs)
    for name in names:  # a graph calls no layer whose own hooks it has captured
        if calls[name] == len(given[name]) or (network.graph is not None and not calls[name]):
            continue
        layer = type(network.module.get_submodule(name)).__name__
        found.append(Difference(name, layer, math.inf, math.inf, tolerance))
    before = _farthest(output, trained[-1][2])
    kind = type(model).__name__
    return [*found, Difference("", kind, before, 0.0, tolerance)]


def require_equal(
    model: nn.Module,
    network: PackedNetwork,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    rounded: bool = False,
) -> None:
    """Check that a packed network computes what the trained model computes.

    Args:
        model, network: as of :func:`compared`.
        args, kwargs: a call's.
        rounded: whether float layers keep rounded weights, so that only calls, sizes, and what
            each packed layer makes of equal inputs can be equal.

    Raises:
        ConfigurationError: naming the first layer that differs by more than rounding.
    """
    for row in compared(model, network, *args, **kwargs):
        most = sys.float_info.max if rounded else row.tolerance
        if row.result > row.tolerance or row.before > most:
            where = f"layer {row.name!r}" if row.name else "the output"
            what = "results differ" if row.result > row.tolerance else "inputs differ"
            what = what if row.name else "it differs"
            by = f"{what} by {max(row.before, row.result):.2g} of the largest"
            by = by if math.isfinite(row.before) else "it is called otherwise, or of other sizes"
            raise ConfigurationError(
                f"the packed copy of {type(model).__name__} is not equal to it: {where} "
                f"({row.kind}): {by}; what lies before it is computed otherwise when packed."
            )


def _recorded(
    model: nn.Module, network: PackedNetwork, args: Any, kwargs: Any, dtype: torch.dtype | None
) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    """Return the calls of the trained layers that have a packed twin of their name, in order."""
    twins = dict(network.module.named_modules())
    modes = {module: module.training for module in model.modules()}
    calls: list[tuple[str, Any, Any]] = []
    handles, names = [], []
    for name, module in model.named_modules():
        plain = clean_name(name)
        if isinstance(module, QuantizedLayer) and plain in twins:

            def record(
                m: nn.Module, given: Any, named: Any, result: Any, name: str = plain
            ) -> None:
                calls.append((name, (_kept(given), _kept(named)), _kept(result)))

            names.append(plain)
            handles.append(module.register_forward_hook(record, with_kwargs=True))

    try:
        model.eval()
        with torch.compiler.set_stance("force_eager"):
            args, kwargs = cast((args, kwargs), dtype)
            output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [*calls, ("", None, output)], names


@contextmanager
def _replacing(
    network: PackedNetwork,
    names: list[str],
    given: dict[str, list[Any]],
    found: list[Difference],
    calls: dict[str, int],
    tolerance: float,
) -> Iterator[None]:
    """Inside, packed layers return what the trained ones returned."""
    busy = False

    def replace(module: nn.Module, args: Any, kwargs: Any, result: Any, name: str) -> Any:
        nonlocal busy
        if busy:
            return None
        place = calls[name]
        calls[name] += 1
        if place >= len(given[name]):
            return None
        (inputs, named), wanted = given[name][place]
        busy = True
        try:
            ours = result
            if len(args) == len(inputs) and kwargs.keys() == named.keys():
                ours = module(*cast(inputs, torch.float32), **cast(named, torch.float32))
        finally:
            busy = False
        kinds = [_TOLERANCES.get(t.dtype, 0.0) for t in _tensors((list(inputs), wanted))]
        found.append(
            Difference(name, type(module).__name__, _farthest(args, inputs),
                       _farthest(ours, wanted), max([tolerance, *kinds]))
        )  # fmt: skip
        return cast(wanted, torch.float32)

    handles = []
    for name in names:
        module = network.module.get_submodule(name)

        def hook(m: nn.Module, args: Any, kwargs: Any, result: Any, name: str = name) -> Any:
            return replace(m, args, kwargs, result, name)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kept(value: Any) -> Any:
    """Return copies of tensors, which the model may change in place afterwards."""
    return tree_map_only(Tensor, lambda t: t.detach().clone(), value)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a value; of objects that only their own process knows, attributes."""
    try:
        return tensors_in(value)
    except ConfigurationError:
        leaves = tree_leaves(value)
    inside = [
        leaf if isinstance(leaf, Tensor) else vars(leaf)
        for leaf in leaves
        if hasattr(leaf, "__dict__")
    ]
    return [leaf for leaf in tree_leaves(inside) if isinstance(leaf, Tensor)]


def _farthest(one: Any, other: Any) -> float:
    """Return the largest difference of two results, relative to the largest number in them."""
    ours, theirs = _tensors(one), _tensors(other)
    worst = 0.0 if len(ours) == len(theirs) else math.inf
    for a, b in zip(ours, theirs, strict=False):
        if a.shape != b.shape:
            return math.inf
        x, y = a.double(), b.double()
        same = (x == y) | (x.isnan() & y.isnan())
        difference = torch.where(same, 0.0, (x - y).abs())
        if difference.numel():
            worst = max(worst, float(difference.max()) / largest(y))
    return worst
