"""Operands on other levels: signs, trits, tanh-bounded ones, powers of two; and any other map."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ste_lightning.functional.estimator.surrogate import Surrogate
from ste_lightning.functional.products.learned_operand import SMALLEST
from ste_lightning.functional.products.operand import Encoded, Gradients, Integers, Levels
from ste_lightning.functional.products.threaded import added_up, by_rows
from ste_lightning.functional.products.tile_products import per_output
from ste_lightning.functional.saved import bit_masks
from ste_lightning.functional.saved.codes import LEAST
from ste_lightning.functional.saved.workspace import Loan, borrow_like
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share

__all__ = ["Codebook", "Remade", "SignWeights", "TanhWeights", "TernaryWeights"]


class SignWeights:
    """a sign(W) with a constant scale a of each output or of all, and any backward rule.

    Args:
        rule: of the sign.
        scale: a, broadcastable against the weights; ``None`` for 1.
    """

    learned: tuple[Tensor, ...] = ()

    def __init__(self, rule: Surrogate, scale: Tensor | None) -> None:
        self.rule, self.scale = rule, scale

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return a sign(W) in ``out``."""
        bit_masks.signs(weight, out)
        return out if self.scale is None else out.mul_(self.scale)

    def differentiate(self, grad: Tensor, weight: Tensor) -> Gradients:
        """Return a ``grad`` f'(W)."""
        grad = grad if self.scale is None else grad.mul_(self.scale)
        return bit_masks.clip_gradient(grad, weight, self.rule), ()

    def rounded(self, weight: Tensor) -> None:
        """Return ``None``: no quotient is rounded."""

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return the levels -1 and 1."""
        found = per_output(self.scale, weight)
        if found is None:
            return None
        steps: NDArray[np.float32] = found.expand(len(weight)).contiguous().numpy()
        return Integers(weight if out is None else self.quantize(weight, out), steps, -1.0, 1.0)

    def multiples_of(self, weight: Tensor) -> Tensor | None:
        """Return the scale."""
        return per_output(self.scale, weight)


class TernaryWeights(SignWeights):
    """a sign(W) 1[|W| > D] with constant a and D of each output or of all, and any backward rule.

    Args:
        rule: of the sign.
        scale: a, broadcastable against the weights.
        threshold: D, in the shape of ``scale``.
    """

    def __init__(self, rule: Surrogate, scale: Tensor, threshold: Tensor) -> None:
        super().__init__(rule, scale)
        self.constants = threshold.reshape(-1).contiguous()
        self.each = scale.reshape(-1).contiguous()

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return -a, 0 and a in ``out``."""
        numbers = self.constants, self.each
        by_rows(training.latent_maps.trit_rows, (weight, out), *numbers, rows=self.each.numel())
        return out


class TanhWeights:
    """DoReFa's weights: (2 round(n (t / bound + 1/2)) - n) / n, t = tanh(W), bound = 2 max|t|.

    dq/dW = 2 (1 - t^2) / bound; the bound is a constant.
    """

    learned: tuple[Tensor, ...] = ()

    def __init__(self, steps: int) -> None:
        self.steps = float(steps)
        self._waiting: Loan | None = None

    def _tanh(self, weight: Tensor) -> tuple[Loan, float]:
        """Return t, which waits for its next use where the thread has memory for it, and bound."""
        loan = self._waiting
        if loan is None:
            loan = borrow_like(weight)
            torch.tanh(weight, out=loan.tensor)
            self._waiting = loan if loan.is_kept else None
        least, most = (float(t) for t in torch.aminmax(loan.tensor))
        largest = max(-least, most)
        return loan, 2 * largest if largest > 0 else 2.0  # so for NaN too

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return odd multiples of 1 / n in ``out``."""
        loan, bound = self._tanh(weight)
        numbers = loan.tensor.data_ptr(), out.data_ptr(), bound, self.steps
        share(lambda a, b: training.latent_maps.quantize_tanh(*numbers, a, b), out.numel(), LEAST)
        return out

    def differentiate(self, grad: Tensor, weight: Tensor) -> Gradients:
        """Return the gradient in W."""
        loan, bound = self._tanh(weight)
        numbers = grad.data_ptr(), loan.tensor.data_ptr(), bound, self.steps
        share(
            lambda a, b: training.latent_maps.differentiate_tanh(*numbers, a, b),
            grad.numel(),
            LEAST,
        )
        return grad, ()

    def multiples_of(self, weight: Tensor) -> Tensor:
        """Return 1 / n."""
        return torch.tensor([1 / self.steps])

    def rounded(self, weight: Tensor) -> None:
        """Return ``None``: no quotient is rounded."""

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return the odd levels -n .. n."""
        steps = np.full(len(weight), 1 / self.steps, np.float32)
        values = weight if out is None else self.quantize(weight, out)
        return Integers(values, steps, -self.steps, self.steps)


class Codebook:
    """Any sorted levels of [-1, 1] or [0, 1], times a learned scale: floats wait.

    y = s nearest(clip(x / s)); dy/dx = 1 inside, dy/ds = nearest(v) - v inside, nearest(v) outside.

    Args:
        scale: s, as it is differentiated.
        levels: ascending, float32; the last is 1.
        multiples: the levels as integers.
    """

    keeps: ClassVar[str] = "its float input"

    def __init__(self, scale: Tensor, levels: Tensor, multiples: Tensor) -> None:
        self.learned = (scale,)
        self.scale = float(np.maximum(np.float32(scale.item()), np.float32(SMALLEST)))
        self.grid, self.thresholds = levels, (levels[1:] + levels[:-1]) / 2
        self.low, self.multiples = float(levels[0]), multiples

    @property
    def levels(self) -> Levels | None:
        """What the codes stand for, where they fit a byte."""
        low, high = float(self.multiples[0]), float(self.multiples[-1])
        if high - low >= 256:
            return None
        return Levels(low, high, 0.0, float(np.float32(self.scale) / np.float32(high)))

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Keep the input; return codes where they are wanted."""
        levels = self.levels if integers else None
        if levels is None:
            return Encoded((x,))
        wide = x.float()
        codes = self._chosen(wide, torch.empty_like(wide), self.multiples.float() - levels.low)
        strange = torch.isnan(codes.sum())  # NaN has no code
        return Encoded((x,), None if strange else codes.to(torch.uint8))

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        return self.values_of_kept(encoded.kept)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        return self.quantize(kept[0].float(), torch.empty(kept[0].shape))

    def quantize(self, x: Tensor, out: Tensor) -> Tensor:
        """Return the nearest levels times the scale in ``out``."""
        return self._chosen(x, out, self.grid * self.scale)

    def _chosen(self, x: Tensor, out: Tensor, values: Tensor) -> Tensor:
        """Return the values of the nearest levels in ``out``."""
        given, count = (x.data_ptr(), out.data_ptr()), len(self.thresholds)
        numbers = self.scale, self.low, self.thresholds.data_ptr(), values.data_ptr(), count
        share(
            lambda a, b: training.codebook.quantize_codebook(*given, *numbers, a, b),
            x.numel(),
            LEAST,
        )
        return out

    def differentiate(self, grad: Tensor, kept: Tensor | tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x and in the scale, summed in float64."""
        x = (kept if isinstance(kept, Tensor) else kept[0]).float()
        given, places = (grad.data_ptr(), x.data_ptr()), (self.thresholds, self.grid)
        numbers = self.scale, self.low, *(t.data_ptr() for t in places), len(self.thresholds)
        work = training.codebook.differentiate_codebook
        by_scale = added_up(lambda to, a, b: work(*given, *numbers, to, a, b), 1, x.numel())
        return grad, (by_scale.to(self.learned[0].dtype).view(self.learned[0].shape),)

    def multiples_of(self, kept: Tensor | tuple[Tensor, ...]) -> Tensor | None:
        """Return the step of the levels."""
        levels = self.levels
        return None if levels is None else torch.tensor([levels.step])

    def rounded(self, weight: Tensor) -> None:
        """Return ``None``: no quotient is rounded."""

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return multiples of the smallest level, where a byte holds them."""
        levels = self.levels
        if levels is None:
            return None
        steps = np.full(len(weight), levels.step, np.float32)
        values = weight if out is None else self.quantize(weight, out)
        return Integers(values, steps, levels.low, levels.high)


class Remade:
    """Any map without effects: the float operand waits, and the map is applied again.

    Args:
        quantizer: the map, with any backward rule.
    """

    keeps: ClassVar[str] = "its float input"
    levels: Levels | None = None

    def __init__(self, quantizer: nn.Module) -> None:
        self.quantizer = quantizer
        self.learned = tuple(quantizer.parameters())

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded:
        """Keep the input."""
        return Encoded((x,))

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        return self.values_of_kept(encoded.kept)

    @torch.no_grad()
    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        quantized: Tensor = self.quantizer(kept[0])
        return quantized

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return q(W) in ``out``."""
        return out.copy_(self.values_of_kept((weight,)))

    def differentiate(self, grad: Tensor, kept: Tensor | tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x and in the map's parameters, by autograd."""
        x = kept if isinstance(kept, Tensor) else kept[0]
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = self.quantizer(leaf)
        wanted = [leaf, *(t for t in self.learned if t.requires_grad)]
        by_x, *found = torch.autograd.grad(y, wanted, grad.to(y.dtype), allow_unused=True)
        by_x = torch.zeros_like(x) if by_x is None else by_x
        rest = iter(found)
        return by_x, tuple(next(rest) if t.requires_grad else None for t in self.learned)

    def multiples_of(self, kept: Tensor | tuple[Tensor, ...]) -> None:
        """Return ``None``: what the levels are is not known."""

    def rounded(self, weight: Tensor) -> None:
        """Return ``None``: no quotient is rounded."""

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return ``None``: what the levels are is not known."""
        return None
