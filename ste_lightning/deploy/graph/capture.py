"""From a packed module and a call to the graph of what it computes, by ``torch.export``."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.call import Call, kept_tensors
from ste_lightning.deploy.graph.exported_program import Captured, Reader
from ste_lightning.deploy.graph.operators import is_known, operator_name
from ste_lightning.deploy.graph.simple_sizes import IntricateSizesError
from ste_lightning.deploy.graph.steps import Ref
from ste_lightning.deploy.graph.trees import dissected
from ste_lightning.errors import ConfigurationError

__all__ = ["capture"]

# torch 2.6 takes batch norm apart, but for what it calls for_training, as all is later
_TAKES_APART = torch.__version__ < "2.7"
_export: Any = getattr(torch.export, "export_for_training" if _TAKES_APART else "export")


def capture(module: nn.Module, arguments: dict[str, Any]) -> Captured:
    """Capture a module's call, with free sizes where they can be.

    Args:
        module: a packed module, in eval mode.
        arguments: of its forward method, by name.

    Raises:
        ConfigurationError: where it cannot, with the line of the model's code and the reason.
    """
    leaves: list[Tensor] = []

    def leaf(tensor: Any) -> Ref:
        leaves.append(tensor)
        return Ref(f"input{len(leaves) - 1}")

    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and kept_tensors(part):
            raise ConfigurationError(f"{name!r} is scripted and has weights: use its Python class.")
    classes: dict[str, type] = {}
    tree = {key: dissected(value, leaf, classes) for key, value in arguments.items()}
    if not leaves:
        raise ConfigurationError("no argument holds a tensor.")
    enlarged = _enlarged(leaves)
    tries = [(enlarged, True), (enlarged, False)]
    if enlarged is not leaves:
        tries += [(leaves, True)]
    failure: Exception | None = None
    for given, all_axes in tries:
        try:
            return _captured(Call(module, tree, classes), given, all_axes)
        except Exception as error:  # whatever a user's forward raises on symbols
            if failure is None or isinstance(failure, IntricateSizesError):
                failure = error
            if isinstance(error, ConfigurationError):
                break
    assert failure is not None
    raise ConfigurationError(_reason(failure)) from failure


def _enlarged(leaves: list[Tensor]) -> list[Tensor]:
    """Return the tensors with two samples where they hold one or none: ones stay ones for ever."""
    sizes = {len(t) for t in leaves if t.dim() > 0}
    if len(sizes) != 1 or sizes.pop() > 1:
        return leaves
    return [
        (t if len(t) else t.new_zeros(1, *t.shape[1:])).repeat(2, *[1] * (t.dim() - 1))
        if t.dim() > 0
        else t
        for t in leaves
    ]


def _reason(error: Exception) -> str:
    """Return what could not be captured, and the line of the model's own code."""
    own = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if not os.path.abspath(f.filename).startswith(own)]
    users = [f for f in users if f.line and not f.filename.endswith(("contextlib.py", ".bench"))]
    first = str(error).strip().splitlines() or [type(error).__name__]
    where = ""
    if users:
        at = users[-1]
        where = f" at {os.path.basename(at.filename)}:{at.lineno}, `{at.line}`"
    what = first[0].rstrip(".")
    if "data-dependent" in what:
        what = "what is computed depends on a number that a tensor holds"
    return f"{what}{where}."


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what only the exporter's authors care about, and close what looks at values.

    That is torch's fused attention, and how transformer layers recognize a causal mask, which
    only makes them faster.
    """
    trace, layers = importlib.import_module("torch.export._trace"), nn.modules.transformer
    causal = layers._detect_is_causal_mask
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx", "torch._export")]
    levels = [logger.level for logger in loggers]
    fast = torch.backends.mha.get_fastpath_enabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    torch.backends.mha.set_fastpath_enabled(False)
    layers._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    vars(trace)["print"] = lambda *args, **kwargs: None  # it shows graphs of thousands of lines
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        del vars(trace)["print"]
        layers._detect_is_causal_mask = causal
        torch.backends.mha.set_fastpath_enabled(fast)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _length(value: Any) -> Any:
    """Return ``len(value)``, of tensors as a symbol: Python's own would make it a number."""
    return value.shape[0] if isinstance(value, Tensor) and value.dim() else len(value)


@contextmanager
def _symbolic_lengths(module: nn.Module) -> Iterator[None]:
    """Let ``len`` in the files that define a model's forward methods return symbols."""
    torchs = os.path.dirname(torch.__file__)
    spaces = []
    for part in module.modules():
        forward = inspect.getattr_static(type(part), "forward", None)
        space = getattr(forward, "__globals__", None)
        file = str(space.get("__file__", "")) if space else torchs
        if space is not None and "len" not in space and not file.startswith(torchs):
            space["len"] = _length
            spaces.append(space)
    try:
        yield
    finally:
        for space in spaces:
            del space["len"]


def _captured(call: Call, leaves: list[Tensor], all_axes: bool) -> Captured:
    auto = torch.export.Dim.AUTO
    axes = [dict.fromkeys(range(x.dim() if all_axes else min(x.dim(), 1)), auto) for x in leaves]
    with _quiet(), _symbolic_lengths(call.module):
        program = _export(call, tuple(leaves), dynamic_shapes=(tuple(axes),), strict=False)
        program = _decomposed(program)
    return Reader(program, call, leaves).read()


def _decomposed(program: Any) -> Any:
    """Return a program with what graphs do not name in smaller operators, where torch has them."""
    strange = {
        node.target
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        and node.target.namespace == "aten"
        and not is_known(operator_name(node.target))
    }
    nests = any(node.op == "get_attr" for node in program.graph.nodes)  # autocast, no_grad
    if not strange and not nests:
        return program
    known = torch.export.default_decompositions()
    smaller = {op: known[op] for op in strange if op in known}
    if _TAKES_APART and not any(str(op) != "aten.sym_size.int" for op in smaller):
        return program
    return program.run_decompositions(smaller)
