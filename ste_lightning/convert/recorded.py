"""Follow the ReLUs of a network through one forward pass, functions and all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ste_lightning.convert.nonnegative import (
    Origins,
    Source,
    is_relu,
    is_relu_name,
    joined,
    keeps_sign,
)
from ste_lightning.convert.structure import Structure, clean_name, tensors

__all__ = ["record"]


class _Recorder(TorchFunctionMode):
    """Follows nonnegative tensors through one forward pass by identity."""

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self.names = names
        self.stack: list[nn.Module] = []
        self.origins: dict[int, Origins] = {}
        self.alive: list[Tensor] = []  # or an id could be used again

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        outputs = [result] if isinstance(result, Tensor) else result
        if not isinstance(outputs, (list, tuple)):
            return result
        inputs = list(tensors((args, kwargs or {})))
        for output in outputs:
            if isinstance(output, Tensor):
                self.note(output, self.origins_of(name, inputs, output))
        return result

    def origins_of(self, name: str, inputs: list[Tensor], output: Tensor) -> Origins:
        if is_relu_name(name):
            owner = self.stack[-1]
            channels = output.shape[1] if output.dim() > 1 else None
            is_module = is_relu(owner)
            return frozenset({Source(self.names.get(owner, ""), is_module, channels)})
        if keeps_sign(name):
            return joined(self.origins.get(id(t)) for t in inputs)
        return frozenset()

    def note(self, tensor: Tensor, origins: Origins) -> None:
        self.alive.append(tensor)
        self.origins[id(tensor)] = origins


def record(
    model: nn.Module, layers: Mapping[str, nn.Module], sample: Any, structure: Structure
) -> None:
    """Run ``model`` once in eval mode and note in ``structure`` what reaches the layers."""
    recorder = _Recorder({m: clean_name(name) for name, m in model.named_modules()})
    names = {layer: name for name, layer in layers.items()}
    handles = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        recorder.stack.append(module)
        if module in names:
            origins = [recorder.origins.get(id(t)) for t in tensors((args, kwargs))]
            structure.enter(names[module], joined(origins[:1]))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        recorder.stack.pop()

    modes = {module: module.training for module in model.modules()}
    if isinstance(sample, Mapping):
        args, kwargs = (), dict(sample)
    else:
        args, kwargs = (sample if isinstance(sample, tuple) else (sample,)), {}
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, always_call=True))
        model.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), recorder:
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
