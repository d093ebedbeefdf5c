"""Weights that are quantized once in evaluation, until they or their quantizer change.

A change is seen in the contents themselves, of which a fingerprint is taken at every call: torch's
version counters know nothing of ``weight.data``, of NumPy's and other processes' writes, and
tensors made in inference mode have none. Reading the weights costs less than half of a product with
one row, quantizing them many times that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ste_lightning.functional.estimator.eager import autocast_dtype, is_eager
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share
from ste_lightning.layers.one_bit import is_observed

__all__ = ["QuantizedOnce", "contents", "may_wait"]

T = TypeVar("T")

_LEAST = 1 << 18  # words worth a thread of their own
_PLAIN = (bool, int, float, str, type(None))


class QuantizedOnce:
    """What was made of weights, and of which. Copies and pickles of a layer do without."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: tuple[Hashable, object] = (None, None)  # one name: threads see both or neither

    def __reduce__(self) -> tuple[type[QuantizedOnce], tuple[()]]:
        return QuantizedOnce, ()

    def get(self, of: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make()`` returned when it was last called for ``of``."""
        known, made = self.kept
        if known != of:
            self.kept = made = (None, None)  # the old ones need not wait for the new ones
            made = make()
            self.kept = (of, made)
        return made  # type: ignore[return-value]


def may_wait(quantizer: nn.Module, weight: Tensor) -> bool:
    """Return whether equal weights will give equal quantized weights, which nobody differentiates.

    That is known of this package's quantizers in evaluation, on the CPU, where nobody sees their
    calls.
    """
    return (
        not (torch.is_grad_enabled() or quantizer.training)
        and weight.is_cpu
        and is_eager(weight)
        and type(quantizer).__module__.startswith("ste_lightning.quantizers.")
        and not (quantizer._modules or is_observed(quantizer))
        and not {"forward", "quantize"} & quantizer.__dict__.keys()
    )


def contents(quantizer: nn.Module, weight: Tensor) -> Hashable:
    """Return what differs wherever the quantized weights may differ."""
    state = quantizer.__dict__
    options = tuple((k, v) for k, v in state.items() if type(v) in _PLAIN)
    tensors = (weight, *quantizer._parameters.values(), *quantizer._buffers.values())
    kind = type(quantizer).__qualname__, autocast_dtype(weight)
    return *kind, options, *(_content(t) for t in tensors if t is not None)


def _content(x: Tensor) -> Hashable:
    """Return the tensor's kind and a fingerprint of its elements."""
    x = x.detach().contiguous()
    size, found = x.numel() * x.itemsize, {}
    words = size // 4
    if words:
        at = x.data_ptr()

        def part(first: int, last: int) -> None:
            found[first] = training.fingerprints.fingerprint(at, first, last)

        share(part, words, _LEAST)
    rest = bytes(x.view(-1).view(torch.uint8)[4 * words :].tolist()) if size % 4 else b""
    return x.shape, x.dtype, tuple(sorted(found.items())), rest
