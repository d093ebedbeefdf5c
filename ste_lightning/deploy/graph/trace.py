"""From a torch module to layers and steps, by symbolic tracing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.fx
from torch import nn

from ste_lightning.deploy.file.float_layers import is_known
from ste_lightning.deploy.graph.network import FUNCTIONS
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer

__all__ = ["Traced", "trace"]

_DROPPED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)


@dataclass
class Traced:
    """What a network computes.

    Attributes:
        layers: name -> the trained module.
        steps: the calls, in order.
        inputs: names of the inputs.
        output: a reference, or a list or tuple of them.
    """

    layers: dict[str, nn.Module]
    steps: list[Step]
    inputs: list[str]
    output: Any


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module is taken as one step."""
        return isinstance(m, QuantizedLayer) or is_known(m) or isinstance(m, _DROPPED)


def trace(model: nn.Module) -> Traced:
    """Trace a model's forward pass.

    Raises:
        ConfigurationError: for control flow that depends on values, operators and modules that a
            packed network does not know, with their names.
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a user's forward raises on symbols
        raise ConfigurationError(
            f"{type(model).__name__} cannot be traced: {error}. Its forward must not depend on "
            "the values of its input; pack the networks inside it one by one."
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode
    return _steps(model, graph)


def _steps(model: nn.Module, graph: torch.fx.Graph) -> Traced:
    found = Traced({}, [], [], None)
    alias: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return alias.get(value.name, Ref(value.name))
        if isinstance(value, (list, tuple)):
            return type(value)(plain(item) for item in value)
        if isinstance(value, slice):
            return slice(plain(value.start), plain(value.stop), plain(value.step))
        if value is Ellipsis or value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise ConfigurationError(f"the constant {value!r} cannot be packed")

    for node in graph.nodes:
        if node.op == "placeholder":
            if node.args:  # an argument with a default keeps it
                alias[node.name] = node.args[0]
            else:
                found.inputs.append(node.name)
            continue
        if node.op == "output":
            found.output = plain(node.args[0])
            continue
        args = tuple(plain(value) for value in node.args)
        kwargs = {key: plain(value) for key, value in node.kwargs.items()}
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if isinstance(module, _DROPPED):
                alias[node.name] = args[0]
                continue
            if not isinstance(module, QuantizedLayer) and not is_known(module):
                raise ConfigurationError(
                    f"{node.target} cannot be packed: {type(module).__name__} is not known"
                )
            found.layers[str(node.target)] = module
            found.steps.append(Step(node.name, "layer", str(node.target), args, kwargs))
        elif node.op in ("call_function", "call_method"):
            name = _function(node.op, node.target)
            if name == "dropout":
                alias[node.name] = args[0]
                continue
            if name not in FUNCTIONS:
                raise ConfigurationError(f"the operator {name} cannot be packed ({node.name})")
            kwargs.pop("inplace", None)
            found.steps.append(Step(node.name, "function", name, args, kwargs))
        else:
            raise ConfigurationError(
                f"{node.target} cannot be packed: the forward pass reads a parameter or buffer "
                "outside a layer"
            )
    return found


def _function(op: str, target: str | Callable[..., Any]) -> str:
    if op == "call_method":
        return f".{target}"
    name = str(getattr(target, "__name__", target))
    return {"iadd": "add", "imul": "mul", "concat": "cat"}.get(name, name.removeprefix("boolean_"))
