"""What one forward pass costs: multiply-accumulates, and bytes kept for the backward pass.

Layers with weights are counted by their shapes, whichever kernel computes them. All other matrix
products, such as those of attention that a model's own forward pass writes, are seen by torch's
dispatcher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ste_lightning.convert.structure import tensors
from ste_lightning.layers.linear import QuantRowLinear

__all__ = ["Costs", "measure"]


class Costs:
    """Per module: multiply-accumulates and bytes saved for backward of one call of the model.

    Attributes:
        samples: size of the batch that was run.
        macs: module -> multiply-accumulates with weights, of the whole batch.
        score_macs: module -> those of two activations, as Q K^T and A V of attention.
        saved: module -> bytes; a tensor saved twice counts for the first module only, and
            parameters do not count.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
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
    costs = Costs(_samples(sample))
    stack: list[nn.Module] = [model]
    own_storage = {p.untyped_storage().data_ptr() for p in model.parameters()}
    weights = set(own_storage)
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

    def add(module: nn.Module, macs: int, scores: int) -> None:
        owner = owners.get(module, model)
        costs.macs[owner] = costs.macs.get(owner, 0) + macs
        costs.score_macs[owner] = costs.score_macs.get(owner, 0) + scores

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        stack.pop()
        if isinstance(module, _COUNTED) and not any(isinstance(m, _COUNTED) for m in stack):
            add(module, *_macs(module, (args, kwargs), output))

    def product(macs: int, operands: list[Tensor]) -> None:
        if any(isinstance(module, _COUNTED) for module in stack):
            return
        weighted = any(t.untyped_storage().data_ptr() in weights for t in operands)
        add(stack[-1], *((macs, 0) if weighted else (0, macs)))

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
            eager = torch.compiler.set_stance("force_eager")
            with torch.enable_grad(), eager, hooks, _Products(product):
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


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tell ``found`` the multiply-accumulates and the operands of every product of matrices."""

    def __init__(self, found: Callable[[int, list[Tensor]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _PRODUCTS:
            left, right = (args[i] for i in _PRODUCTS[name])
            self.found(left.numel() * (right.shape[-1] if right.dim() > 1 else 1), [left, right])
        elif name in ("convolution", "_convolution"):
            x, weight, transposed = args[0], args[1], args[6]
            self.found((x if transposed else output).numel() * weight[0].numel(), [x, weight])
        elif name.startswith("_scaled_dot_product") and not name.endswith("backward"):
            q, k, v = args[:3]
            rows = q.numel() // q.shape[-1] * k.shape[-2]
            self.found(rows * (q.shape[-1] + v.shape[-1]), [q, k, v])
        return output


# Which arguments are multiplied: (..., n, k) and (..., k, m).
_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2),
             "baddbmm": (1, 2), "addmv": (1, 2)}  # fmt: skip


def _samples(sample: Any) -> int:
    """Return the size of the batch: that of the first tensor, 1 for one without a batch."""
    first = next(tensors(sample), None)
    return 1 if first is None or first.dim() < 2 else max(len(first), 1)


_COUNTED = (
    nn.Linear,
    QuantRowLinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def _macs(module: nn.Module, inputs: Any, output: Any) -> tuple[int, int]:
    """Return the multiply-accumulates of one call with weights, and of attention's scores."""
    first = next(tensors(inputs), None)
    result = next(tensors(output), None)
    if first is None or result is None:
        return 0, 0
    if isinstance(module, nn.Linear):
        return result.numel() * module.in_features, 0
    if isinstance(module, QuantRowLinear):
        return result.numel() * len(module.weight), 0
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
