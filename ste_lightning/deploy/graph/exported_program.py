"""From a program that ``torch.export`` made to the graph of what it computes."""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.graph.call import Call
from ste_lightning.deploy.graph.operators import is_known, operator_name
from ste_lightning.deploy.graph.simplify import simplified
from ste_lightning.deploy.graph.size_rules import SizeRules
from ste_lightning.deploy.graph.steps import CONSTANT, Graph, GraphInput, Ref, Step, filled
from ste_lightning.deploy.graph.whole_operators import NAMES, PREFIX
from ste_lightning.deploy.layers.operator import OPERATOR, Opaque
from ste_lightning.errors import ConfigurationError

__all__ = ["Captured", "Reader"]

_PREFIX = "module."
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


class Reader:
    """Reads an exported program into a graph.

    Args:
        program: what ``torch.export`` returned.
        call: what was exported.
        leaves: the tensors that it was called with.
    """

    def __init__(self, program: Any, call: Call, leaves: list[Tensor]) -> None:
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
