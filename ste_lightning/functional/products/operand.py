"""What an operand of a product must be able to do: quantize, wait, and be differentiated.

One autograd function (:mod:`.quantized`) multiplies all kinds of operands; how each is quantized,
what is kept of it and what its gradients are is said by its strategy.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Encoded", "FloatInput", "InputOperand", "Integers", "Levels", "WeightOperand"]

Gradients = tuple[Tensor, tuple[Tensor | None, ...]]


class Integers(NamedTuple):
    """Weights as integers: q(W) = steps round(clip(values / steps, low, high)).

    Attributes:
        values: the latent weights, or the quantized ones.
        steps: one per output.
        low, high: of the integers.
    """

    values: Tensor
    steps: NDArray[np.float32]
    low: float
    high: float


class Levels(NamedTuple):
    """Integers ``low - zero`` to ``high - zero`` that an operand's bytes stand for.

    Attributes:
        low, high, zero: of the grid; a code is level - low.
        step: what 1 is worth: a number, or one per row, which an output is multiplied by.
    """

    low: float
    high: float
    zero: float
    step: float | Tensor


class Encoded(NamedTuple):
    """A quantized input: what waits for the backward pass, and bytes for an integer product."""

    kept: tuple[Tensor, ...]
    codes: Tensor | None = None


class InputOperand(Protocol):
    """How a layer's input is quantized; an object serves one call.

    Attributes:
        keeps: what waits for the backward pass, in words for the log.
        learned: what is differentiated beside the input.
        levels: what the codes stand for; ``None`` where there are none.
    """

    keeps: ClassVar[str]

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """What is differentiated beside the input."""

    @property
    def levels(self) -> Levels | None:
        """What the codes of :meth:`encode` stand for, if they are integers."""

    def multiples_of(self, kept: tuple[Tensor, ...]) -> Tensor | None:
        """Return what q(x) is a multiple of: one step, or one for each row; ``None`` if unknown."""

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Quantize ``x``, contiguous, in float32.

        Args:
            x: the input, detached.
            learns: whether a gradient in ``x`` or in what is learned is wanted.
            integers: whether the codes are wanted.

        Returns:
            ``None`` where a number is not finite and compiled code cannot take it.
        """

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x), in float32, for the forward product."""

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again, for the backward pass."""

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x and in what is learned; ``grad`` may be overwritten."""


class WeightOperand(Protocol):
    """How latent weights, contiguous float32, are quantized; an object serves one call.

    Attributes:
        learned: what is differentiated beside the weights.
    """

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """What is differentiated beside the weights."""

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return q(W) in ``out``, contiguous like ``weight``."""

    def differentiate(self, grad: Tensor, weight: Tensor) -> Gradients:
        """Return the gradients in W and in what is learned; ``grad`` may be overwritten."""

    def multiples_of(self, weight: Tensor) -> Tensor | None:
        """Return what q(W) is a multiple of: one step, or one per output; ``None`` if unknown."""

    def rounded(self, weight: Tensor) -> tuple[float, float] | None:
        """Return (low, high) where q(W) = s round(clip(W / s, low, high)) with those steps s."""

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return q(W) as integers, whose values may be written to ``out``.

        Without ``out`` only whether there are integers is asked: ``None`` where there are none.
        """


class FloatInput:
    """An input that is multiplied as it is."""

    keeps: ClassVar[str] = "its float input"
    learned: tuple[Tensor, ...] = ()
    levels: Levels | None = None

    def multiples_of(self, kept: tuple[Tensor, ...]) -> None:
        """Return ``None``: it is any float."""

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded:
        """Keep the input."""
        return Encoded((x,))

    def values(self, encoded: Encoded) -> Tensor:
        """Return the input."""
        return encoded.kept[0]

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the input."""
        return kept[0]

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return ``grad``."""
        return grad, ()
