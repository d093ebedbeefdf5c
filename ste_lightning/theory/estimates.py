"""A measured value with its interval, and what is computed from several of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["Estimate", "difference", "power_law", "quotient"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and the bootstrap's replicates behind it.

    ``value`` is NaN where the data only bound it: then ``low`` and ``high`` are the bounds. An
    interval's end that the data do not reach is infinite (``high``), or 0 or -infinite (``low``).
    """

    value: float
    low: float
    high: float
    replicates: Tensor = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        """Return ``value [low, high]``, with "(" and ")" at an open end, or the bound alone."""
        if not math.isnan(self.value):
            low = f"({self.low:.4g}" if self.low in (0, -math.inf) else f"[{self.low:.4g}"
            high = "∞)" if math.isinf(self.high) else f"{self.high:.4g}]"
            return f"{self.value:.4g} {low.replace('inf', '∞')}, {high}"
        return f"> {self.low:.4g}" if math.isinf(self.high) else f"< {self.high:.4g}"


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """Return the ratio of two values with its interval, open where theirs are.

    Args:
        above: the numerator.
        below: the denominator, with replicates of the same seeds, so that what both share of
            the sampling error drops out.
    """
    known = not (math.isnan(above.value) or math.isnan(below.value))
    require(known, "above, below", (above.value, below.value), "leave out what is only bounded")
    replicates = above.replicates / below.replicates
    low, high = (float(replicates.quantile(q)) for q in (0.025, 0.975))
    low = 0.0 if above.low == 0 or math.isinf(below.high) else low
    high = math.inf if math.isinf(above.high) or below.low == 0 else high
    return Estimate(above.value / below.value, low, high, replicates)


def difference(later: Estimate, earlier: Estimate) -> Estimate:
    """Return ``later - earlier`` with its interval, open where theirs are.

    Args:
        later: an exponent, say.
        earlier: another one, with replicates of the same seeds: what they have in common (the N50
            between them) counts as it does, not as two independent errors.
    """
    known = not (math.isnan(later.value) or math.isnan(earlier.value))
    require(known, "later, earlier", (later.value, earlier.value), "leave out what is only bounded")
    replicates = later.replicates - earlier.replicates
    low, high = (float(replicates.quantile(q)) for q in (0.025, 0.975))
    low = -math.inf if math.isinf(later.low) or math.isinf(earlier.high) else low
    high = math.inf if math.isinf(later.high) or math.isinf(earlier.low) else high
    return Estimate(later.value - earlier.value, low, high, replicates)


def power_law(n: Sequence[int] | Tensor, values: Sequence[Estimate]) -> Estimate:
    r"""Return the exponent p of :math:`\text{value} \propto n^p`, with its interval.

    Weighted least squares of log value on log n, weights from the replicates' variances; the
    interval is that of the replicates' own exponents, so it holds the sampling error only. Where
    a value's interval is open, so is the exponent's, on the side that this value moves it to.

    Args:
        n: sizes, at least two.
        values: a bootstrapped estimate for each of them, none NaN.
    """
    x = torch.as_tensor(n, dtype=torch.float64).log()
    require(len(x) == len(values) and len(x) > 1, "n", n, "give two or more sizes with values")
    known = all(not math.isnan(value.value) for value in values)
    require(known, "values", values, "leave out sizes whose value is only bounded")
    y = torch.tensor([value.value for value in values], dtype=torch.float64).log()
    sampled = torch.stack([value.replicates.log() for value in values])
    weight = 1 / sampled.var(1).clamp(min=1e-8)
    mean = (weight * x).sum() / weight.sum()
    slope = weight * (x - mean)
    slope = slope / (slope * (x - mean)).sum()
    exponents = slope @ sampled
    low, high = (float(exponents.quantile(q)) for q in (0.025, 0.975))
    for weighed, value in zip(slope.tolist(), values, strict=True):
        above, below = math.isinf(value.high), value.low == 0
        if above if weighed > 0 else below:
            high = math.inf
        if below if weighed > 0 else above:
            low = -math.inf
    return Estimate(float(slope @ y), low, high, exponents)
