r"""Straight-through descent of a quantized linear model in high dimension: the equations.

Student and teacher are those of :mod:`ste_lightning.theory.linear`. The inputs enter by two
numbers, :math:`\rho_1 = E[x q(x)]` and :math:`\rho_2 = E[q(x)^2]`. Given the weights, f - y is for
large n a Gaussian with mean 0 and the variance that is the generalization error,

.. math:: \varepsilon = \rho_2 \overline{Q^2} - 2 \rho_1 \overline{Q w^*}
          + \overline{w^{*2}} + \sigma^2,

bars for means over coordinates: three *order parameters* tell the error. In one step a weight
changes by :math:`-\eta (f - y) q(x_i) / \sqrt n`. Its mean follows from the one term of f - y that
has the same :math:`x_i`: :math:`-\frac{\eta}{n} (\rho_2 Q(w_i) - \rho_1 w_i^*)`; its variance is
:math:`\frac{\eta^2}{n} \rho_2 \varepsilon`. In the time :math:`t = \eta \cdot steps / n` every
weight is therefore an independent diffusion in the field of all others,

.. math:: dw = -(\rho_2 Q(w) - \rho_1 w^*) dt + \sqrt{\eta \rho_2 \varepsilon(t)} \, dB,

and the density p(w, t) of the weights obeys a Fokker-Planck equation that depends on itself by
:math:`\varepsilon`:

.. math:: \partial_t p = \partial_w [(\rho_2 Q(w) - \rho_1 w^*) p]
          + \tfrac12 \eta \rho_2 \varepsilon \, \partial_w^2 p .

*Plateau.* Between two thresholds the drift is constant: a weight that starts near 0 sees the lowest
positive level Q = a and needs :math:`t^* = 2 a / (\rho_1 - \rho_2 a)` to the next threshold 2 a.
Until then the error stays, then all weights cross at nearly the same time.

It is solved on cells whose faces meet the thresholds, implicitly in time, with exponentially
fitted fluxes, which keep p positive and are exact where the drift is constant (Scharfetter and
Gummel 1969).
Source: Ichikawa, Kashiwamura, Sakata, arXiv 2510.10693 (the claim and the setting); the derivation
here is ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from scipy.special import ndtr

from ste_lightning.errors import require

__all__ = ["Levels", "Limit", "Moments", "input_moments", "limit", "plateau"]

Array = NDArray[np.float64]

_CELL = 0.005  # width of a cell, at most
_STEP = 0.002  # of time, at most
_SIGMAS = 6.0  # how much of the Gaussian start is on the grid


@dataclasses.dataclass(frozen=True)
class Levels:
    """Equidistant levels.

    Attributes:
        bits: 2^bits levels.
        range: the largest; the smallest is -range.

    Raises:
        ConfigurationError: for values out of range.
    """

    bits: int
    range: float

    def __post_init__(self) -> None:
        """Check the settings."""
        require(self.bits in range(1, 9), "bits", self.bits, "use 1 to 8")
        require(0 < self.range < math.inf, "range", self.range, "use a positive number")

    @property
    def top(self) -> int:
        """The number of levels less one."""
        return int(2**self.bits - 1)

    @property
    def spacing(self) -> float:
        """Distance of neighbouring levels."""
        return 2 * self.range / self.top

    def __call__(self, x: NDArray[Any]) -> Array:
        """Return the nearest level of every x."""
        place = np.floor((np.asarray(x, np.float64) + self.range) / self.spacing + 0.5)
        level: Array = np.clip(place, 0, self.top) * self.spacing - self.range
        return level


@dataclasses.dataclass(frozen=True)
class Moments:
    """What of quantized inputs x ~ N(0, 1) the equations need.

    Attributes:
        first: E[x q(x)].
        second: E[q(x)^2].
    """

    first: float
    second: float

    def error(self, q: Array, share: Array, noise: float) -> float:
        """Return the expected squared error of weights ``q``, of each a ``share``; w* = 1."""
        return float(self.second * (share @ q**2) - 2 * self.first * (share @ q) + 1 + noise**2)


@dataclasses.dataclass(frozen=True)
class Limit:
    """The solution.

    Attributes:
        error: the expected squared error at the times asked for.
        edges: of the cells.
        cumulative: share of the weights below each edge, for every snapshot.
    """

    error: list[float]
    edges: Array
    cumulative: list[Array]


def input_moments(levels: Levels) -> Moments:
    """Return both moments of quantized standard normal inputs."""
    values = np.linspace(-levels.range, levels.range, levels.top + 1)
    ends = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    height = np.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
    return Moments(
        float(values @ (height[:-1] - height[1:])), float(values**2 @ np.diff(ndtr(ends)))
    )


def plateau(weights: Levels, moments: Moments) -> float:
    """Return the time that a weight needs from 0 to the first positive threshold.

    Infinite where the lowest positive level already exceeds what the labels ask for.
    """
    if weights.top == 1:
        return math.inf  # one positive level: nothing to cross
    lowest = weights.spacing / 2
    drift = moments.first - moments.second * lowest
    return 2 * lowest / drift if drift > 0 else math.inf


def limit(
    weights: Levels,
    inputs: Levels,
    *,
    lr: float,
    time: Sequence[float] | Array,
    snapshots: Sequence[float] = (),
    noise: float = 0.0,
    init_scale: float = 0.05,
) -> Limit:
    """Solve the equations for w* = 1 and a Gaussian start.

    Args:
        weights: levels of the weights.
        inputs: levels of the inputs.
        lr: step size.
        time: ascending times, in lr * steps / n, at which the error is wanted.
        snapshots: ascending times at which the density is wanted, none after the last of ``time``.
        noise: standard deviation of the label noise.
        init_scale: standard deviation of the weights at time 0.

    Raises:
        ConfigurationError: for values out of range.
    """
    for argument, value in {"lr": lr, "init_scale": init_scale}.items():
        require(0 < value < math.inf, argument, value, "use a positive number")
    require(0 <= noise < math.inf, "noise", noise, "use a standard deviation >= 0")
    first, last = (float(time[0]), float(time[-1])) if len(time) else (-1.0, -1.0)
    rising = first >= 0 and last < math.inf and bool(np.all(np.diff(time) >= 0))
    require(rising, "time", list(time), "use one or more ascending times >= 0")
    within = all(0 <= one <= last for one in snapshots)
    require(within, "snapshots", list(snapshots), f"use times from 0 to the last, {last:g}")
    moments = input_moments(inputs)
    edges = _grid(weights, moments, float(time[-1]), init_scale)
    width = edges[1] - edges[0]
    q = weights((edges[1:] + edges[:-1]) / 2)
    drift = moments.first - moments.second * q
    between = (drift[1:] + drift[:-1]) / 2
    share = np.diff(ndtr(edges / init_scale))
    share /= share.sum()
    stops = sorted({*map(float, time), *map(float, snapshots)})
    found: dict[float, tuple[float, Array]] = {}
    now = 0.0
    for stop in stops:
        count = math.ceil((stop - now) / _STEP - 1e-9)
        for _ in range(count):
            diffusion = 0.5 * lr * moments.second * moments.error(q, share, noise)
            share = _step(share, between, diffusion, width, (stop - now) / count)
        now = stop
        found[stop] = moments.error(q, share, noise), share
    cumulative = [np.concatenate([[0.0], np.cumsum(found[float(t)][1])]) for t in snapshots]
    return Limit([found[float(t)][0] for t in time], edges, cumulative)


def _grid(weights: Levels, moments: Moments, time: float, init_scale: float) -> Array:
    """Return equidistant edges that meet the thresholds and leave room for all weights."""
    parts = math.ceil(weights.spacing / _CELL)
    width = weights.spacing / parts
    first = -weights.range + weights.spacing / 2  # a threshold
    reach = _SIGMAS * init_scale + 1.0
    # Where no level reaches what the labels ask for, weights go on rising.
    beyond = max(0.0, moments.first - moments.second * weights.range) * time
    low = math.floor((-reach - first) / width)
    high = math.ceil((max(reach, weights.range + 1.0) + beyond - first) / width)
    edges: Array = first + width * np.arange(low, high + 1, dtype=np.float64)
    return edges


def _step(share: Array, drift: Array, diffusion: float, width: float, dt: float) -> Array:
    """Return the shares of the cells one implicit step later; nothing leaves the grid."""
    z = drift * width / diffusion
    up, down = (dt * diffusion / width**2 * _bernoulli(sign * z) for sign in (-1, 1))
    bands = np.zeros((3, len(share)))
    bands[0, 1:], bands[2, :-1], bands[1] = -down, -up, 1.0
    bands[1, :-1] += up
    bands[1, 1:] += down
    solved: Array = solve_banded((1, 1), bands, share)
    return solved


def _bernoulli(z: Array) -> Array:
    """Return z / (exp(z) - 1)."""
    small = np.abs(z) < 1e-6
    safe = np.where(small, 1.0, np.clip(z, -500, 500))
    fitted: Array = np.where(small, 1 - z / 2, safe / np.expm1(safe))
    return fitted
