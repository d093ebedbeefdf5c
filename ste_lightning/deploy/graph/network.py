"""A packed network: packed modules, and the graph that says how they are called."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ste_lightning.deploy.graph.check import FAILURES, checked, uncomputable
from ste_lightning.deploy.graph.execution import Execution, hooks_of, unfit
from ste_lightning.deploy.graph.proof import prove
from ste_lightning.deploy.graph.steps import Graph
from ste_lightning.deploy.graph.trees import cast, float_type, mapped
from ste_lightning.deploy.layers.operator import EvalOnly
from ste_lightning.deploy.layers.packed_layer import packed_layers
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional.estimator.eager import untraced
from ste_lightning.io.html import html_table

if TYPE_CHECKING:
    from ste_lightning.deploy.predict import Prediction

__all__ = ["PackedNetwork"]


_lock = threading.RLock()


class PackedNetwork(EvalOnly):
    """A network for evaluation whose quantized layers hold packed integers.

    Its graph is captured at the first call, unless it comes from a file; from then on calls
    follow the graph, in which packed layers hand on bits and codes. Calls of another form, and
    of networks that cannot be captured, call :attr:`module`. No call changes it, so that threads
    may share it; the packed layers' products do not hold the GIL.

    Attributes:
        module: the packed copy of the model, of the model's own class with its methods; from a
            file, modules that hold the layers and constants alone.
        graph: what is computed, ``None`` before it is captured.
        info: plain data to keep with the network: class names, preprocessing, input shape.
        reason: why the network cannot be captured, ``""`` where it can or was not tried.

    Args:
        module: packed modules under the names that the graph uses.
        graph: what is computed with them.
        constants: tensors of the graph that belong to no module.
        classes: classes of records among arguments and results, by name.
        info: see above.
        fold: whether what lies between packed layers becomes thresholds.

    Raises:
        ConfigurationError: for a graph that does not fit the modules.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: Graph | None = None,
        constants: Mapping[str, Tensor] | None = None,
        classes: Mapping[str, type] | None = None,
        info: Mapping[str, Any] | None = None,
        fold: bool = True,
    ) -> None:
        super().__init__()
        self.module = module
        self.info: dict[str, Any] = dict(info or {})
        self.reason = ""
        self.fuses, self.folds = True, fold
        self.graph: Graph | None = None
        self.others, self.classes = nn.Module(), dict(classes or {})
        self._made: Execution | None = None
        self._whole = type(module) is not nn.Module  # its class is there, and can be called
        self.kept_hooks = {key for key, found in hooks_of(module).items() if found}
        self.values: dict[str, Any] = {}
        self.eval()
        if graph is not None:
            self.follow(graph, constants or {})

    def follow(self, graph: Graph, constants: Mapping[str, Tensor]) -> None:
        """Compute a graph from now on, which is checked first.

        Args:
            graph: of the modules.
            constants: tensors of the graph that belong to no module.
        """
        others = nn.Module()
        for name, value in constants.items():
            others.register_buffer(_key(name), value)
        values = checked(graph, self._layers(graph), self._constants(graph, others))
        self.others, self.graph, self.values, self._made = others, graph, values, None

    def layer(self, name: str) -> nn.Module:
        """Return a layer by its name in the model."""
        return self.module.get_submodule(name)

    def layer_names(self) -> list[str]:
        """Return the names of the modules that hold tensors of their own, packed ones first."""
        packed = packed_layers(self.module)
        inside = {id(part) for layer in packed.values() for part in layer.modules()}
        own = [
            name
            for name, module in self.module.named_modules()
            if id(module) not in inside and (module._parameters or module._buffers)
        ]
        return [*packed, *own]

    def layers(self) -> dict[str, nn.Module]:
        """Return the packed modules that the graph calls, by name."""
        assert self.graph is not None
        return self._layers(self.graph)

    def constants(self) -> dict[str, Tensor]:
        """Return the parameters, buffers and other tensors that the graph uses, by name."""
        assert self.graph is not None
        return self._constants(self.graph, self.others)

    def _layers(self, graph: Graph) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        for name in graph.layers():
            try:
                found[name] = self.module.get_submodule(name)
            except AttributeError:
                raise ConfigurationError(f"there is no layer {name!r}.") from None
        return found

    def _constants(self, graph: Graph, others: nn.Module) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in graph.constants():
            owner, _, key = name.rpartition(".")
            try:
                kept = others._buffers.get(_key(name))
                value = getattr(self.module.get_submodule(owner), key) if kept is None else kept
            except AttributeError:
                raise ConfigurationError(f"the constant {name!r} is missing.") from None
            found[name] = value
        return found

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """Return the tensors of a call in the order of the graph's inputs.

        Raises:
            ConfigurationError: for arguments that the graph does not take.
        """
        found = self._execution(False).inputs(args, kwargs)
        if found is None:
            assert self.graph is not None
            raise unfit(self.graph, args, kwargs)
        return found

    def capture(self, *args: Any, **kwargs: Any) -> None:
        """Capture what a call computes, and prove it: with these arguments, and one sample of them.

        Raises:
            ConfigurationError: where it cannot, with the line of the model and the reason.
        """
        from ste_lightning.deploy.graph.call import arguments_of
        from ste_lightning.deploy.graph.capture import capture

        given = arguments_of(self.module, args, kwargs)
        with torch.no_grad():
            captured = capture(self.module, given)
            self.classes |= captured.classes
            self.follow(captured.graph, captured.constants)
            try:
                for tensors in self._samples(args, kwargs):
                    self._prove(*tensors)
            except ConfigurationError:
                self.graph = None
                raise

    def _samples(self, args: Any, kwargs: Any) -> list[tuple[Any, Any]]:
        """Return the arguments, and the first sample of them where the batch is free."""
        assert self.graph is not None
        free = all(not g.sizes or g.sizes[0] is None for g in self.graph.inputs)
        batches = {g.example[0] for g in self.graph.inputs if g.sizes}
        found = [(args, kwargs)]
        if free and len(batches) == 1:
            found.append(mapped((args, kwargs), lambda t: t[:1] if t.dim() else t))
        return found

    def _prove(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compare the graph's results with the module's."""
        inputs = self.inputs(args, kwargs)
        prove(
            self.layers(),
            lambda: self.module(*args, **kwargs),
            lambda: self._execution(self.fuses).result(inputs),
            lambda: self._execution(False, watched=True).result(inputs),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's output.

        Raises:
            ConfigurationError: for arguments that the network does not take.
        """
        made = self._made
        if made is not None and len(args) == 1 and not kwargs:
            y = made.at_once(args[0])
            if y is not None:
                return y
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._computed(args, kwargs)
        return self._computed(args, kwargs)

    def _computed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
            with _lock:  # while another thread captures torch says so to all of them: wait for it
                pass
        if self._whole and torch.compiler.is_compiling():
            return self._called(args, kwargs)
        if self._whole:
            return self._executed(args, kwargs)
        try:
            return self._executed(args, kwargs)
        except ConfigurationError:
            raise
        except FAILURES as error:  # a file that torch's rules of sizes and types let through
            raise uncomputable("the network from this file", error) from error

    @untraced
    def _executed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = self._made
        if made is None or not made.current():
            if self.graph is None:
                hooks = hooks_of(self.module).items()
                if any(found for key, found in hooks if key not in self.kept_hooks):
                    return self._called(args, kwargs)  # somebody watches modules
                if any(isinstance(t, Tensor) and t.is_meta for t in tree_leaves((args, kwargs))):
                    return self._called(args, kwargs)  # without values nothing can be proved
                with _lock:  # exporting changes the module for a while
                    if self.graph is None and not self.reason:
                        args, kwargs = self._cast((args, kwargs))
                        y = self._first(args, kwargs)
                        self._try_to_capture(args, kwargs)
                        if self.graph is None:
                            return y
                if self.graph is None:
                    return self._called(args, kwargs)
            made = self._made = self._execution(self.fuses)
        if any(made.hooks):  # somebody watches modules
            if self._whole:
                return self._called(args, kwargs)
            made = self._execution(False, watched=True)
        inputs = made.inputs(args, kwargs)
        if inputs is not None:
            return made.result(inputs)
        if self._whole:
            return self._called(args, kwargs)
        assert self.graph is not None
        raise unfit(self.graph, args, kwargs)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the module as it is."""
        args, kwargs = self._cast((args, kwargs))
        return self.module(*args, **kwargs)

    def _first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the module as it is, which also checks the arguments."""
        try:
            return self.module(*args, **kwargs)
        except RuntimeError as error:
            if "dtype" not in str(error):
                raise
            name = type(self.module).__name__
            raise ConfigurationError(
                f"{name} cannot be packed: {error}; packed models compute in float32, and its "
                "forward casts to another type: let it cast to the type of a weight."
            ) from error

    def _cast(self, arguments: Any) -> Any:
        """Return arguments with the floats that the packed module has, whatever was trained."""
        return cast(arguments, float_type(self.module.parameters()))

    def _try_to_capture(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.capture(*args, **kwargs)
        except ConfigurationError as error:
            self.reason = str(error)
            warnings.warn(
                f"{type(self.module).__name__} cannot be captured: {error} The packed copy runs "
                "in this process, but cannot be saved.",
                stacklevel=6,
            )

    def _execution(self, fuse: bool, watched: bool = False) -> Execution:
        graph = self.graph
        assert graph is not None
        constants = self._constants(graph, self.others)
        return Execution(self, graph, self._layers(graph), constants, fuse, watched)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._made = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._made = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is derived from the layers."""
        return {**self.__dict__, "_made": None}

    def predict(self, images: Any, **options: Any) -> list[Prediction]:
        """Predict from pictures, their files, or arrays, with the preprocessing in ``info``.

        Args:
            images, options: as of :func:`~ste_lightning.deploy.predict.predict`.

        Returns:
            One (sample, prediction, confidence, outputs) per sample.
        """
        from ste_lightning.deploy.predict import predict

        return predict(self, images, **options)

    def __repr__(self) -> str:
        """Return a line; ``print(packed.module)`` shows the layers."""
        return f"PackedNetwork({self.extra_repr()})"

    def _repr_html_(self) -> str:
        """Return the table of layers that notebooks show."""
        layers = packed_layers(self.module).items()
        rows = [(name, type(layer).__name__, layer.extra_repr()) for name, layer in layers]
        return html_table(("layer", "type", ""), rows, [self.extra_repr()])

    def extra_repr(self) -> str:
        """Return the arguments and the number of steps."""
        size = sum(t.numel() * t.element_size() for t in self.state_dict().values())
        known = "not captured yet"
        if self.graph is not None:
            known = f"arguments={list(self.graph.arguments)}, {len(self.graph.steps)} steps"
        return f"{known}, {math.ceil(size / 1024)} KiB"


def _key(name: str) -> str:
    """Return a name without dots, which torch does not allow in a buffer's name."""
    return name.replace(".", "/")
