"""What one forward pass costs: multiply-accumulates, and bytes kept for the backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ste_lightning.convert.structure import tensors

__all__ = ["Costs", "measure"]


class Costs:
    """Per module: multiply-accumulates and bytes saved for backward of one call of the model.

    Attributes:
        macs: module -> multiply-accumulates; attention's score products are in ``score_macs``.
        score_macs: module -> those of Q K^T and of A V.
        saved: module -> bytes; a tensor saved twice counts for the first module only, and
            parameters do not count.
    """

    def __init__(self) -> None:
        self.macs: dict[nn.Module, int] = {}
        self.score_macs: dict[nn.Module, int] = {}
        self.saved: dict[nn.Module, int] = {}


def measure(model: nn.Module, sample: Any, owners: Mapping[nn.Module, nn.Module]) -> Costs:
    """Run ``model`` on ``sample`` in training mode and count.

    The model is left as it was: parameters, buffers, training flags, random numbers.

    Args:
        model: any module.
        sample: a tensor, or a tuple or dict of arguments.
        owners: module -> the module that its costs count for.
    """
    costs = Costs()
    stack: list[nn.Module] = [model]
    own_storage = {p.untyped_storage().data_ptr() for p in model.parameters()}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in own_storage:
            own_storage.add(pointer)
            alive.append(tensor)  # or its address could be used again
            owner = owners.get(stack[-1], model)
            size = tensor.untyped_storage().nbytes()
            costs.saved[owner] = costs.saved.get(owner, 0) + size
        return tensor

    def before(module: nn.Module, args: Any) -> None:
        stack.append(module)
        if isinstance(module, _BatchNorm) and _one_value_per_channel(args[0]):
            module.eval()  # a sample of one row: batch statistics need two values

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        stack.pop()
        if owners.get(module) is module:
            macs, scores = _macs(module, (args, kwargs), output)
            costs.macs[module] = costs.macs.get(module, 0) + macs
            costs.score_macs[module] = costs.score_macs.get(module, 0) + scores

    if isinstance(sample, Mapping):
        args, kwargs = (), dict(sample)
    else:
        args, kwargs = (sample if isinstance(sample, tuple) else (sample,)), {}
    handles = []
    with _as_it_was(model):
        try:
            for module in model.modules():
                handles.append(module.register_forward_pre_hook(before))
                handles.append(module.register_forward_hook(after, with_kwargs=True))
            model.train()
            hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
            with torch.enable_grad(), torch.compiler.set_stance("force_eager"), hooks:
                model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
    return costs


def _one_value_per_channel(x: Tensor) -> bool:
    return x.dim() > 1 and x.numel() == x.shape[1]


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what a forward pass in training mode changes."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.load_state_dict(state)
        for module, training in modes.items():
            module.training = training


def _macs(module: nn.Module, inputs: Any, output: Any) -> tuple[int, int]:
    """Return the multiply-accumulates of one call with weights, and of attention's scores."""
    first = next(tensors(inputs), None)
    result = next(tensors(output), None)
    if first is None or result is None:
        return 0, 0
    if isinstance(module, nn.Linear):
        return result.numel() * module.in_features, 0
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        per_output = module.in_channels // module.groups * math.prod(module.kernel_size)
        return result.numel() * per_output, 0
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        per_input = module.out_channels // module.groups * math.prod(module.kernel_size)
        return first.numel() * per_input, 0
    if isinstance(module, nn.RNNBase):
        tokens = first.numel() // module.input_size
        return tokens * sum(p.numel() for p in module.parameters() if p.dim() == 2), 0
    if isinstance(module, nn.MultiheadAttention):
        query, key = [*tensors(inputs), first][:2]
        width = module.embed_dim
        queries, keys = query.numel() // width, key.numel() // width
        axis = 1 if module.batch_first and query.dim() == 3 else 0
        batch = 1 if query.dim() == 2 else query.shape[1 - axis]
        scores = 2 * batch * query.shape[axis] * key.shape[axis] * width
        return 2 * (queries + keys) * width * width, scores
    return 0, 0
