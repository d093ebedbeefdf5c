"""A packed network: layers, and the steps that connect them, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning.deploy.fusion.plan import runs_of
from ste_lightning.deploy.graph.steps import Ref, Step, references
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.functional.estimator.eager import untraced

if TYPE_CHECKING:
    from ste_lightning.deploy.predict import Prediction

__all__ = ["FUNCTIONS", "PackedNetwork"]


def _method(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    return call


_METHODS = (
    *("view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze"),
    *("mean", "sum", "amax", "size", "float", "chunk", "split", "clamp", "relu", "sigmoid"),
    *("tanh", "softmax", "abs"),
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b,
    "neg": lambda a: -a,
    "matmul": torch.matmul,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "interpolate": F.interpolate,
    "pixel_shuffle": F.pixel_shuffle,
    "pad": F.pad,
    "getitem": lambda a, i: a[i],
    "getattr": lambda a, name: tuple(a.shape) if name == "shape" else a.ndim,
    "flatten": torch.flatten,
    "cat": torch.cat,
    "stack": torch.stack,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "max_pool1d": F.max_pool1d,
    "max_pool2d": F.max_pool2d,
    "avg_pool1d": F.avg_pool1d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "mean": torch.mean,
    "sum": torch.sum,
    "clamp": torch.clamp,
    "reshape": torch.reshape,
    "permute": torch.permute,
    "transpose": torch.transpose,
    "squeeze": torch.squeeze,
    "unsqueeze": torch.unsqueeze,
    **{f".{name}": _method(name) for name in _METHODS},
}


def _filled(value: Any, results: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return results[value.name]
    if isinstance(value, slice):
        return slice(*(_filled(part, results) for part in (value.start, value.stop, value.step)))
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, results) for item in value)
    return value


class _Action(NamedTuple):
    """A step with what it calls.

    Attributes:
        call: a layer, a run of layers, or a function.
        source: the result that is the only argument, if that is so.
        args, kwargs: all arguments.
        result: the name of what it makes.
        done: the results that no later step needs.
    """

    call: Callable[..., Any]
    source: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: str
    done: list[str]


class _Plan(NamedTuple):
    """What a call does, and the layers of which that was derived."""

    actions: list[_Action]
    layers: tuple[nn.Module, ...]
    states: list[tuple[PackedLayer, object]]

    def current(self, layers: tuple[nn.Module, ...]) -> bool:
        """Return whether the layers are these still, and what they were."""
        if self.layers != layers:
            return False
        return all(layer.state is state for layer, state in self.states)


def _last_uses(steps: Sequence[Step], output: Any) -> dict[str, list[str]]:
    """Return, per step, the results that no later step needs."""
    kept, last = set(references(output)), {}
    for step in reversed(steps):
        used = set(references((step.args, step.kwargs))) | {step.result}
        last[step.result] = sorted(used - kept)
        kept |= used
    return last


class PackedNetwork(nn.Module):
    """A network for evaluation whose quantized layers hold packed integers.

    It computes its steps in order; each step calls a layer or a function of :data:`FUNCTIONS` on
    earlier results. It has no state that a call changes, so that threads may share it; the
    packed layers' products do not hold the GIL.

    Args:
        layers: name -> module.
        steps: in order; their names are unique.
        inputs: names of the positional inputs.
        output: what is returned: a reference, or a list or tuple of references.
        info: plain data to keep with the network: class names, preprocessing, input shape.

    Raises:
        ConfigurationError: for steps that refer to something unknown.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        steps: Sequence[Step],
        inputs: Sequence[str],
        output: Any,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({_key(name): layer for name, layer in layers.items()})
        self.steps = tuple(steps)
        self.inputs = tuple(inputs)
        self.output = output
        self.info: dict[str, Any] = dict(info or {})
        self._check()
        self._plan: _Plan | None = None
        self.eval()

    def _check(self) -> None:
        known = set(self.inputs)
        require(len(known) == len(self.inputs) > 0, "inputs", self.inputs, "use distinct names")
        for step in self.steps:
            if step.op == "layer":
                if _key(step.target) not in self.layers:
                    raise unknown("layer", step.target, map(_name, self.layers))
            elif step.op != "function" or step.target not in FUNCTIONS:
                raise unknown("function", step.target, FUNCTIONS)
            for name in references((step.args, step.kwargs)):
                if name not in known:
                    raise ConfigurationError(
                        f"step {step.result!r} uses {name!r} before it is made."
                    )
            require(step.result not in known, "result", step.result, "it is made twice")
            known.add(step.result)
        names = references(self.output)
        require(
            len(names) > 0 and known.issuperset(names), "output", self.output, "name known results"
        )

    def _planned(self) -> _Plan:
        """Return what a call does, derived from the layers at the first one."""
        found = tuple(self.layers._modules.values())
        plan = self._plan
        if plan is not None and plan.current(found):
            return plan
        layers = {name: self.layer(name) for name in self.layer_names()}
        steps, runs = runs_of(layers, self.steps, self.output)
        calls: dict[str, Mapping[str, Any]] = {"layer": layers, "run": runs, "function": FUNCTIONS}
        last, actions = _last_uses(steps, self.output), []
        for step in steps:
            alone = len(step.args) == 1 and isinstance(step.args[0], Ref) and not step.kwargs
            source = step.args[0].name if alone else None
            call, done = calls[step.op][step.target], last[step.result]
            actions.append(_Action(call, source, step.args, step.kwargs, step.result, done))
        states = [(m, m.state) for m in found if isinstance(m, PackedLayer)]
        plan = self._plan = _Plan(actions, found, states)
        return plan

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._plan = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._plan = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is derived from the layers."""
        return {**self.__dict__, "_plan": None}

    def layer(self, name: str) -> nn.Module:
        """Return a layer by the name that steps use."""
        return self.layers[_key(name)]

    def layer_names(self) -> list[str]:
        """Return the names of the layers, as in the trained network."""
        return [_name(key) for key in self.layers]

    def train(self, mode: bool = True) -> Any:
        """Refuse training mode.

        Raises:
            ConfigurationError: for ``mode=True``.
        """
        require(not mode, "mode", mode, "a packed network is for evaluation; train the original")
        return super().train(mode)

    @untraced
    def forward(self, *inputs: Any) -> Any:
        """Return the network's output.

        Raises:
            ConfigurationError: for a wrong number of inputs.
        """
        if len(inputs) != len(self.inputs):
            raise ConfigurationError(
                f"{len(inputs)} inputs cannot be used: the network takes {len(self.inputs)}: "
                f"{', '.join(self.inputs)}."
            )
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._computed(inputs)
        return self._computed(inputs)

    def _computed(self, inputs: tuple[Any, ...]) -> Any:
        results: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for call, source, args, kwargs, result, done in self._planned().actions:
            if source is not None:
                results[result] = call(results[source])
            else:
                filled = {key: _filled(value, results) for key, value in kwargs.items()}
                results[result] = call(*_filled(args, results), **filled)
            for name in done:
                del results[name]
        return _filled(self.output, results)

    def predict(self, images: Any, **options: Any) -> list[Prediction]:
        """Predict from pictures, their files, or arrays, with the preprocessing in ``info``.

        Args:
            images, options: as of :func:`~ste_lightning.deploy.predict.predict`.

        Returns:
            One (sample, prediction, confidence, outputs) per sample.
        """
        from ste_lightning.deploy.predict import predict

        return predict(self, images, **options)

    def extra_repr(self) -> str:
        """Return the inputs and the number of steps."""
        size = sum(t.numel() * t.element_size() for t in self.state_dict().values())
        return f"inputs={list(self.inputs)}, {len(self.steps)} steps, {math.ceil(size / 1024)} KiB"


def _key(name: str) -> str:
    """Return a layer's name without dots, which torch does not allow in a module's name."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
