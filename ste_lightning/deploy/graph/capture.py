"""From a packed module and a call to the graph of what it computes, by ``torch.export``."""

from __future__ import annotations

import importlib
import inspect
import logging
import operator
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.operators import is_known, operator_name
from ste_lightning.deploy.graph.simple_sizes import IntricateSizesError, SimpleSizes
from ste_lightning.deploy.graph.simplify import simplified
from ste_lightning.deploy.graph.size_rules import SizeRules
from ste_lightning.deploy.graph.steps import CONSTANT, Graph, GraphInput, Ref, Step, filled
from ste_lightning.deploy.graph.trees import assembled, dissected
from ste_lightning.deploy.graph.whole_operators import NAMES, PREFIX, WholeOperators
from ste_lightning.deploy.layers.operator import OPERATOR, Opaque
from ste_lightning.errors import ConfigurationError

__all__ = ["Captured", "arguments_of", "capture"]

_PREFIX = "module."
# torch 2.6 takes batch norm apart, but for what it calls for_training, as all is later
_TAKES_APART = torch.__version__ < "2.7"
_export: Any = getattr(torch.export, "export_for_training" if _TAKES_APART else "export")


@dataclass(frozen=True)
class Captured:
    """What capturing found.

    Attributes:
        graph: what the module computes.
        constants: tensors that belong to no module, by name.
        classes: of records among arguments and results, by name.
    """

    graph: Graph
    constants: dict[str, Tensor]
    classes: dict[str, type]


def arguments_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the given arguments of a module's forward method by name, in its order.

    Raises:
        TypeError: for arguments that it does not take.
    """
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"*{name}{i}": item for i, item in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


class _Seen:
    """What a call returned, and numbers it may read; exporters look at attributes of modules."""

    def __init__(self, module: nn.Module) -> None:
        self.output: Any = None
        self.classes: dict[str, type] = {}
        self.numbers = {
            name: tensor.item() for name, tensor in _kept(module).items() if tensor.numel() == 1
        }


class _Call(nn.Module):
    """A module's call with the tensors among its arguments alone, returning tensors alone."""

    def __init__(self, module: nn.Module, arguments: dict[str, Any], classes: dict[str, type]):
        super().__init__()
        self.module, self.arguments, self.classes = module, arguments, classes
        self.seen = _Seen(module)

    def forward(self, *leaves: Tensor) -> list[Any]:
        """Return the tensors of the result."""
        given = assembled(self.arguments, lambda ref: leaves[int(ref.name[5:])], self.classes)
        named = {key: value for key, value in given.items() if not key.startswith("*")}
        rest = [value for key, value in given.items() if key.startswith("*")]
        kept, known = _kept(self.module), self.seen.numbers
        numbers = {id(kept[name]): number for name, number in known.items()}
        with WholeOperators(numbers), SimpleSizes():
            if rest:
                y = self.module(*[named.pop(key) for key in list(named) if rest], *rest)
            else:
                y = _called(self.module, named)
        found: list[Any] = []

        def leaf(tensor: Any) -> Ref:
            found.append(tensor)
            return Ref(str(len(found) - 1))

        self.seen.output = dissected(y, leaf, self.seen.classes)
        return found


def _kept(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _called(module: nn.Module, named: dict[str, Any]) -> Any:
    """Call a module with its arguments by name; those that only have places, by place."""
    places: list[Any] = []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind not in _PLACES or name not in named:
            break  # what has a place is given by place, as hooks expect it
        places.append(named.pop(name))
    return module(*places, **named)


_PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


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
        if isinstance(part, torch.jit.ScriptModule) and _kept(part):
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
            return _captured(_Call(module, tree, classes), given, all_axes)
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


def _captured(call: _Call, leaves: list[Tensor], all_axes: bool) -> Captured:
    auto = torch.export.Dim.AUTO
    axes = [dict.fromkeys(range(x.dim() if all_axes else min(x.dim(), 1)), auto) for x in leaves]
    with _quiet(), _symbolic_lengths(call.module):
        program = _export(call, tuple(leaves), dynamic_shapes=(tuple(axes),), strict=False)
        program = _decomposed(program)
    return _Reader(program, call, leaves).read()


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


class _Reader:
    """Reads an exported program into a graph."""

    def __init__(self, program: Any, call: _Call, leaves: list[Tensor]) -> None:
        self.program, self.call, self.leaves = program, call, leaves
        signature = program.graph_signature
        lifted = signature.inputs_to_lifted_tensor_constants
        self.names = {
            node: name.removeprefix(_PREFIX)
            for node, name in {
                **signature.inputs_to_parameters,
                **signature.inputs_to_buffers,
                **lifted,
            }.items()
        }
        self.constants = {
            name.removeprefix(_PREFIX): program.constants[name].detach().clone()
            for name in lifted.values()
        }
        self.alias: dict[str, Any] = {}
        self.handles = {
            m.handle: name for name, m in call.module.named_modules() if isinstance(m, Opaque)
        }

    def read(self) -> Captured:
        """Return the graph."""
        inputs: list[GraphInput] = []
        symbols: dict[Any, tuple[str, int]] = {}
        dependent: list[tuple[Any, str, int]] = []  # sizes that follow from those of symbols
        steps: list[Step] = []
        shape_env, output = None, None
        values: dict[str, Any] = {}
        for node in self.program.graph.nodes:
            value = values[node.name] = node.meta.get("val")
            if node.op == "placeholder":
                if node.name in self.names:
                    self.alias[node.name] = Ref(CONSTANT + self.names[node.name])
                    values[CONSTANT + self.names[node.name]] = value
                    continue
                name = f"input{len(inputs)}"
                self.alias[node.name] = Ref(name)
                values[name] = value
                shape_env = shape_env or getattr(value.fake_mode, "shape_env", None)
                sizes: list[int | None] = []
                for axis, size in enumerate(value.shape):
                    free = isinstance(size, torch.SymInt) and not size.node.expr.is_number
                    sizes.append(None if free else int(size))
                    if free and size.node.expr.is_Symbol and size.node.expr not in symbols:
                        symbols[size.node.expr] = (name, axis)
                    elif free:
                        dependent.append((size.node.expr, name, axis))
                example = tuple(self.leaves[len(inputs)].shape)
                inputs.append(GraphInput(name, value.dtype, tuple(sizes), example))
            elif node.op == "output":
                output = self._output([self._plain(item) for item in node.args[0]])
            elif node.op == "call_function":
                step = self._step(node)
                if step is not None:
                    steps.append(step)
            else:
                raise ConfigurationError(f"{node.op} {node.target} cannot be packed.")
        rules = SizeRules(symbols)
        if shape_env is not None:
            rules.add(shape_env)
            for expression, name, axis in dependent:
                rules.equal(expression, name, axis)
        steps, output = simplified([*rules.steps, *steps], output, values)
        graph = Graph(self.call.arguments, tuple(inputs), tuple(steps), output)
        used = set(graph.constants())
        constants = {name: value for name, value in self.constants.items() if name in used}
        return Captured(graph, constants, {**self.call.classes, **self.call.seen.classes})

    def _output(self, results: list[Any]) -> Any:
        of = self.call.seen.output
        return filled(of, lambda ref: results[int(ref.name)], lambda record: record)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return self.alias.get(value.name, Ref(value.name))
        if isinstance(value, (list, tuple)):
            return [self._plain(item) for item in value]
        if value is None or isinstance(
            value, (bool, int, float, complex, str, torch.dtype, torch.memory_format)
        ):
            return value
        raise ConfigurationError(f"the constant {value!r} cannot be packed.")

    def _step(self, node: Any) -> Step | None:
        target = node.target
        if isinstance(target, torch._ops.OpOverload):
            name = target._schema.name
            if name == OPERATOR:
                x, handle, growth = node.args
                given = [self._plain(x), *([self._plain(growth)] if growth else [])]
                return Step(node.name, "layer", self.handles[handle], tuple(given), {})
            if name.startswith(PREFIX):
                name = NAMES[name.removeprefix(PREFIX)]
            elif name in _CHECKS:
                return None
            else:
                name = operator_name(target) if target.namespace == "aten" else str(target)
            name = {"sym_size.int": "sizes.size", "sym_numel": "sizes.numel"}.get(name, name)
            schema = target._schema
            if schema.is_mutable and any(self._is_kept(a) for a in node.args[:1]):
                raise ConfigurationError(
                    f"{name} changes a parameter, buffer or input in place{_line(node)}."
                )
        else:
            name = _SIZE_FUNCTIONS.get(target, getattr(target, "__name__", str(target)))
        if not is_known(name):
            raise ConfigurationError(f"the operator {name} cannot be packed{_line(node)}.")
        kwargs = {
            key: self._plain(value)
            for key, value in node.kwargs.items()
            if key not in ("device", "pin_memory", "layout")
        }
        args = node.args
        if name == "to.device":  # results stay where the network is
            name, args = "to.dtype", (args[0], *args[2:3])
        return Step(node.name, "function", name, tuple(self._plain(a) for a in args), kwargs)

    def _is_kept(self, value: Any) -> bool:
        """Return whether a result may share memory with a parameter, buffer or input."""
        while isinstance(value, torch.fx.Node):
            if value.op == "placeholder":
                return True
            target = value.target
            if not isinstance(target, torch._ops.OpOverload) or not value.args:
                return False
            name = target._schema.name.removeprefix("aten::").rstrip("_")
            aliases = any(r.alias_info is not None for r in target._schema.returns)
            if not aliases and name not in _MAY_ALIAS:
                return False
            value = value.args[0]
        return False


def _line(node: Any) -> str:
    """Return the line of the model's code that a node comes from, for a message."""
    trace = str(node.meta.get("stack_trace") or "").strip().splitlines()
    places = [line.strip() for line in trace if line.strip().startswith("File ")]
    if not places:
        return ""
    parts = places[-1].split(", ")
    file = os.path.basename(parts[0].removeprefix('File "').rstrip('"'))
    return f" ({file}:{parts[1].removeprefix('line ')})"


_CHECKS = {
    "aten::_assert_tensor_metadata",
    "aten::sym_constrain_range",
    "aten::sym_constrain_range_for_size",
    "aten::_assert_scalar",
}
_MAY_ALIAS = {"reshape", "flatten", "contiguous", "to", "dropout", "type_as"}
_ARITHMETIC = "add sub mul floordiv truediv mod neg abs lt le gt ge eq ne pow"
_SIZE_FUNCTIONS: dict[Any, str] = {
    operator.getitem: "sizes.getitem",
    torch.sym_max: "sizes.max",
    torch.sym_min: "sizes.min",
    torch.sym_float: "sizes.float",
    torch.sym_int: "sizes.int",
    torch.sym_not: "sizes.not",
    **{getattr(operator, name): f"sizes.{name}" for name in _ARITHMETIC.split()},
}
