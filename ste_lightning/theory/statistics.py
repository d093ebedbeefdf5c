"""How sure a measured rate, threshold or correlation is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.stats import t as student
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.theory.estimates import Estimate

__all__ = [
    "average",
    "correlation",
    "crossing",
    "half_point",
    "logistic",
    "lowest",
    "student_mean",
    "vertex",
    "wilson",
]

_Z95 = 1.959963984540054


def wilson(successes: Tensor | int, trials: Tensor | int) -> tuple[Tensor, Tensor]:
    r"""Return Wilson's 95 % interval of a proportion, elementwise.

    .. math:: \frac{p + z^2/2T \pm z \sqrt{p(1-p)/T + z^2/4T^2}}{1 + z^2/T}

    Args:
        successes: counts.
        trials: T, at least 1, of a shape that broadcasts.

    Source: Wilson 1927, JASA 22(158).
    """
    count = torch.as_tensor(trials, dtype=torch.float64)
    require(bool((count > 0).all()), "trials", trials, "use positive counts")
    p = torch.as_tensor(successes, dtype=torch.float64) / count
    z2 = _Z95**2
    centre = p + z2 / (2 * count)
    half = _Z95 * (p * (1 - p) / count + z2 / (4 * count**2)).sqrt()
    low, high = ((centre + s * half) / (1 + z2 / count) for s in (-1, 1))
    return low.clamp(min=0) * (p > 0), high.clamp(max=1)  # without a success exactly 0


def half_point(
    samples: Sequence[int] | Tensor, success: Tensor, replicates: int = 400, seed: int = 0
) -> Estimate:
    r"""Return N50, the number of samples at which half of the trials succeed.

    The maximum-likelihood fit of :math:`P(N) = 1 / (1 + \exp(-b(\log N - \log N_{50})))`,
    with a weak ridge on b that decides where the data separate perfectly; the interval is
    the bootstrap's over seeds (a seed keeps its outcomes at all N together).

    Args:
        samples: the K numbers of samples.
        success: outcome of every seed at every N, bool, shape (K, seeds).
        replicates: bootstrap samples; default 400.
        seed: of the bootstrap.

    Returns:
        N50 with its interval, whose ends outside the range of ``samples`` are 0 and infinity;
        NaN and a bound where the fitted curve does not rise through one half within that range:
        the largest of them is too few if it ends below. Replicates may lie outside.
    """
    N = torch.as_tensor(samples, dtype=torch.float64)
    require(
        success.dim() == 2 and len(success) == len(N),
        "success.shape",
        tuple(success.shape),
        f"use ({len(N)}, seeds), a row for each of the samples",
    )
    rate = success.double().mean(1)
    seeds = success.shape[1]
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(seeds, (replicates, seeds), generator=generator)
    rates = torch.cat([rate[None], success.double()[:, picked].mean(2).T])
    centre, width = logistic(N.log(), rates, seeds)
    none = torch.empty(0, dtype=torch.float64)
    if rate.max() < 0.5 or (N.max().log() - centre[0]) / width[0] < 0:
        return Estimate(math.nan, float(N.max()), math.inf, none)
    if rate.min() > 0.5 or (N.min().log() - centre[0]) / width[0] > 0:
        return Estimate(math.nan, 0.0, float(N.min()), none)
    fits = centre.exp()
    return _within(fits, float(N.min()), float(N.max()))


def _within(found: Tensor, first: float, last: float) -> Estimate:
    """Return the first of ``found`` with the others' interval, open where it leaves the range."""
    low, high = (float(found[1:].quantile(q)) for q in (0.025, 0.975))
    low, high = (low if low > first else 0.0), (high if high < last else math.inf)
    return Estimate(float(found[0]), low, high, found[1:])


def crossing(
    samples: Sequence[int] | Tensor, share: Tensor, replicates: int = 400, seed: int = 0
) -> Estimate:
    """Return the number of samples at which the mean of ``share`` first crosses one half.

    By linear interpolation in log N, for shares of time, whose curve is no logistic one; the
    interval is the bootstrap's over seeds.

    Args:
        samples: the K numbers of samples, ascending.
        share: of every seed at every N, in [0, 1], shape (K, seeds).
        replicates: bootstrap samples; default 400.
        seed: of the bootstrap.

    Returns:
        The crossing with its interval, whose ends at the edges of ``samples`` are 0 and infinity;
        NaN and a bound where the mean never crosses.
    """
    x = torch.as_tensor(samples, dtype=torch.float64).log()
    mean = share.double().mean(1)
    none = torch.empty(0, dtype=torch.float64)
    if mean.max() < 0.5:
        return Estimate(math.nan, float(x.max().exp()), math.inf, none)
    if mean[0] > 0.5:
        return Estimate(math.nan, 0.0, float(x.min().exp()), none)
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(share.shape[1], (replicates, share.shape[1]), generator=generator)
    rates = torch.cat([mean[None], share.double()[:, picked].mean(2).T])
    # Replicates that do not cross within the grid end at its edge.
    above = (rates >= 0.5).int()
    place = torch.where(above.any(1), above.argmax(1), len(x) - 1).clamp(min=1)
    row = torch.arange(len(rates))
    low, high = rates[row, place - 1], rates[row, place]
    part = ((0.5 - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    found = (x[place - 1] + part * (x[place] - x[place - 1])).exp()
    return _within(found, float(x.min().exp()), float(x.max().exp()))


def correlation(x: Tensor, y: Tensor, replicates: int = 400, seed: int = 0) -> Estimate:
    """Return Pearson's correlation of two samples, with the bootstrap's interval over pairs.

    Args:
        x: first sample, (K,); pairs in which a number is not finite are left out.
        y: second sample, (K,).
        replicates: bootstrap samples; default 400.
        seed: of the bootstrap.

    Returns:
        The correlation; NaN, without replicates, for fewer than three pairs or if one of the
        samples does not vary.
    """
    both = torch.stack([x, y]).double()
    both = both[:, both.isfinite().all(0)]
    pairs = both.shape[1]
    if pairs < 3 or bool((both == both[:, :1]).all(1).any()):
        return Estimate(math.nan, -1.0, 1.0, torch.empty(0, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(pairs, (replicates, pairs), generator=generator)
    samples = torch.cat([both[:, None], both[:, picked]], 1)
    a, b = samples - samples.mean(2, keepdim=True)
    found = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    # A replicate may hold a single pair again and again.
    low, high = (float(found[1:].nanquantile(q)) for q in (0.025, 0.975))
    return Estimate(float(found[0]), low, high, found[1:])


def average(values: Sequence[float] | Tensor, replicates: int = 400, seed: int = 0) -> Estimate:
    """Return the mean of the trials' values, with the bootstrap's interval over trials.

    Args:
        values: one per trial.
        replicates: bootstrap samples; default 400. With equal seeds and numbers of trials two
            means have the same trials in each, so their quotient and difference are paired.
        seed: of the bootstrap.
    """
    x = torch.as_tensor(values, dtype=torch.float64)
    require(x.dim() == 1 and len(x) > 0, "values", tuple(x.shape), "give one per trial")
    generator = torch.Generator().manual_seed(seed)
    means = x[torch.randint(len(x), (replicates, len(x)), generator=generator)].mean(1)
    low, high = (float(means.quantile(q)) for q in (0.025, 0.975))
    return Estimate(float(x.mean()), low, high, means)


def student_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values with the interval of Student's t, for few of them.

    Args:
        values: at least two.
    """
    require(len(values) > 1, "values", values, "give at least two")
    x = torch.tensor(values, dtype=torch.float64)
    half = float(student.ppf(0.975, len(x) - 1)) * float(x.std()) / math.sqrt(len(x))
    centre = float(x.mean())
    return Estimate(centre, centre - half, centre + half, torch.empty(0, dtype=torch.float64))


def lowest(
    places: Sequence[float], values: Tensor, replicates: int = 400, seed: int = 0
) -> Estimate:
    """Return the place at which the mean over trials is lowest, with the bootstrap's interval.

    Args:
        places: the K places.
        values: of every trial at every place, (K, trials).
        replicates: bootstrap samples; default 400.
        seed: of the bootstrap.
    """
    where = torch.tensor(places, dtype=torch.float64)
    require(
        values.dim() == 2 and len(values) == len(where),
        "values.shape",
        tuple(values.shape),
        "use (K, B)",
    )
    trials = values.shape[1]
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(trials, (replicates, trials), generator=generator)
    found = where[values.double()[:, picked].mean(2).argmin(0)]
    low, high = (float(found.quantile(q)) for q in (0.025, 0.975))
    return Estimate(float(where[values.double().mean(1).argmin()]), low, high, found)


def vertex(
    places: Sequence[float], values: Tensor, replicates: int = 400, seed: int = 0
) -> Estimate:
    """Return where the mean over trials is lowest, between places too, with its interval.

    It is the vertex of the least-squares parabola through the logarithms of the means over those
    of the places; the interval is the bootstrap's over trials. A parabola that opens downwards
    has none: then it is the place of the lowest mean.

    Args:
        places: the K places, at least 3, positive.
        values: positive, of every trial at every place, (K, trials).
        replicates: bootstrap samples; default 400.
        seed: of the bootstrap.
    """
    x = torch.tensor(places, dtype=torch.float64).log()
    require(len(x) > 2, "places", places, "give at least 3")
    trials = values.shape[1]
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(trials, (replicates, trials), generator=generator)
    means = torch.cat([values.double().mean(1)[None], values.double()[:, picked].mean(2).T])
    design = torch.stack([torch.ones_like(x), x, x * x], 1)
    _, slope, bend = (means.log() @ torch.linalg.pinv(design).T).T
    lowest = x[means.argmin(1)]
    inside = (-slope / (2 * bend.clamp(min=1e-9))).clamp(x.min(), x.max())
    found = torch.where(bend > 0, inside, lowest).exp()
    low, high = (float(found[1:].quantile(q)) for q in (0.025, 0.975))
    return Estimate(float(found[0]), low, high, found[1:])


def logistic(x: Tensor, rates: Tensor, trials: int) -> tuple[Tensor, Tensor]:
    """Fit 1 / (1 + exp(-(x - centre) / width)) to each row of rates, by penalized likelihood.

    Args:
        x: places, (K,).
        rates: observed shares, (R, K).
        trials: how many trials each share is of.

    Returns:
        ``centre``, where the curve crosses one half, and ``width``, both (R,).
    """
    spread = x.std() if len(x) > 1 else x.new_zeros(())
    centre, scale = x.mean(), spread.clamp(min=1e-9)
    t = (x - centre) / scale
    design = torch.stack([torch.ones_like(t), t])
    ridge = torch.diag(torch.tensor([1e-6, 1e-2], dtype=torch.float64))
    beta = torch.zeros(len(rates), 2, dtype=torch.float64)
    beta[:, 1] = 1.0

    def objective(beta: Tensor) -> Tensor:
        eta = beta @ design
        fit = trials * (rates * eta - torch.nn.functional.softplus(eta)).sum(1)
        return fit - 0.5 * ((beta @ ridge) * beta).sum(1)

    height = objective(beta)
    for _ in range(50):
        p = torch.sigmoid(beta @ design)
        gradient = trials * (rates - p) @ design.T - beta @ ridge
        weight = trials * p * (1 - p)
        hessian = (weight[:, None] * design) @ design.T + ridge
        move = torch.linalg.solve(hessian, gradient)
        for _ in range(20):  # halve what overshoots; rounding does not count
            risen = objective(beta + move)
            worse = risen < height - 1e-9 * (1 + height.abs())
            if not bool(worse.any()):
                break
            move[worse] /= 2
        beta, height = beta + move, risen
        if float(move.abs().max()) < 1e-7:
            break
    crossing: Tensor = centre - scale * beta[:, 0] / beta[:, 1]
    # A replicate without a trend crosses nowhere; keep it within sight of the data.
    span = x.max() - x.min()
    crossing = crossing.clamp(x.min() - span, x.max() + span)
    return crossing, (scale / beta[:, 1]).clamp(-span, span)
