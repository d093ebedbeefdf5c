"""How many samples a teacher-student problem needs, from measured tables, and how sure that is."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ste_lightning.errors import require, require_positive_integer, unknown
from ste_lightning.io.whole_file import write_text
from ste_lightning.theory.statistics import logistic

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["Advice", "required_samples", "table_rows"]

_FILE = "required_samples.json"
_PLACE = ("rule", "m", "n", "noise", "iterate")  # one fit each
_REPLICATES = 200
_Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Advice:
    """How many samples are needed, and how sure that is.

    Attributes:
        samples: N at which the share ``target`` of the trials recovers, rounded up.
        low, high: its 95 % interval: the table's sampling error and, between its nodes, the
            interpolation's own error.
        iterate: ``last`` or ``averaged``, whichever is meant.
        target: the share of trials.
        measured: whether n, m and noise are a node of the table.
        sure: one sentence, for people.
    """

    samples: int
    low: int
    high: int
    iterate: str
    target: float
    measured: bool
    sure: str

    def __int__(self) -> int:
        """Return :attr:`samples`."""
        return self.samples


@dataclasses.dataclass(frozen=True)
class _Node:
    """A fit log N = centre + logit(P) * width at one (m, n, noise), with its covariance."""

    centre: float
    width: float
    covariance: tuple[float, float, float]

    def at(self, logit: float) -> float:
        return self.centre + logit * self.width

    def variance(self, logit: float) -> float:
        a, b, c = self.covariance
        return a + 2 * b * logit + c * logit**2


_Place = tuple[float, ...]
_Corners = tuple[tuple[float, float], ...]
_Table = dict[tuple[str, str], dict[_Place, _Node]]


@functools.cache
def _table() -> _Table:
    text = (package_files("ste_lightning.theory") / _FILE).read_text(encoding="utf-8")
    table: _Table = {}
    for row in json.loads(text)["rows"]:
        place = (float(row["m"]), float(row["n"]), float(row["noise"]))
        node = _Node(row["centre"], row["width"], tuple(row["covariance"]))
        table.setdefault((row["rule"], row["iterate"]), {})[place] = node
    return table


def required_samples(
    n: int,
    m: int = 4,
    rule: str = "relu",
    noise: float = 0.0,
    target: float = 0.95,
    iterate: str | None = None,
) -> Advice:
    r"""Return how many samples make the share ``target`` of the trials recover the teacher.

    Measured with the conventions of :func:`ste_lightning.theory.simulate`: \|v\| = 1, Gaussian
    inputs, step size 1, T = 2000. At each node of the table recovery is fitted by
    :math:`P(N) = 1 / (1 + e^{-(\log N - c)/s})`; log N is interpolated linearly in log n and in
    the noise, not in m.

    Args:
        n: inputs of the first layer.
        m: rows of a sample, one of the table's (1 and 4); default 4.
        rule: the step's backward rule, with its default parameters; default ``relu``.
        noise: standard deviation of the label noise; default 0.
        target: share of the trials, 0.05 to 0.99; default 0.95.
        iterate: ``last`` or ``averaged``; default ``last`` without noise, and ``averaged`` with
            noise, under which no iterate stays at w*.

    Returns:
        An :class:`Advice`; ``int(advice)`` is the number.

    Raises:
        ConfigurationError: outside the table (n from 8 to 128; to 256 with identity and m = 1; to
            32 with label noise, of 0.5 at most), which is not extrapolated, and for the last
            iterate under noise.
    """
    require_positive_integer("n", n)
    require_positive_integer("m", m)
    require(0.05 <= target <= 0.99, "target", target, "use a share from 0.05 to 0.99")
    require(noise >= 0, "noise", noise, "use a standard deviation >= 0")
    chosen = iterate or ("averaged" if noise else "last")
    if chosen not in ("last", "averaged"):
        raise unknown("iterate", chosen, ("last", "averaged"))
    require(
        not (noise and chosen == "last"),
        "iterate",
        chosen,
        "under label noise iterates leave w* again and again: use 'averaged'",
    )
    table = _table()
    rules = sorted({name for name, _ in table})
    if rule not in rules:
        raise unknown("rule of the table", rule, rules)
    nodes = table[rule, chosen]
    logit = math.log(target / (1 - target))
    value, variance, measured = _interpolated(nodes, (float(m), float(n), float(noise)), logit)
    spread = _Z95 * math.sqrt(variance)
    low, samples, high = (math.ceil(math.exp(value + s * spread)) for s in (-1, 0, 1))
    kind = "measured at this point" if measured else "interpolated between measured points"
    sure = f"{kind}: {samples} samples, 95 % interval {low} to {high}"
    return Advice(samples, low, high, chosen, target, measured, sure)


def _interpolated(
    nodes: dict[_Place, _Node], place: _Place, logit: float
) -> tuple[float, float, bool]:
    """Return log N, its variance, and whether ``place`` is a node."""
    m, n, noise = place
    held = sorted({node[0] for node in nodes})
    remedy = f"the table holds m = {' and '.join(f'{k:g}' for k in held)}; simulate it instead"
    require(m in held, "m", m, remedy)  # too few are known to tell how wrong interpolation would be
    noises = _around("noise", noise, {node[2] for node in nodes if node[0] == m})
    inputs = [{node[1] for node in nodes if node[0] == m and node[2] == k} for k, _ in noises]
    of = f" with m = {m:g}" + (" and label noise" if noise else "")
    corners = [((m, 1.0),), _around("n", n, set.intersection(*inputs), of), noises]
    value = variance = 0.0
    for corner in itertools.product(*corners):
        weight = math.prod(share for _, share in corner)
        node = nodes[tuple(x for x, _ in corner)]
        value += weight * node.at(logit)
        variance += weight**2 * node.variance(logit)
    measured = all(len(corner) == 1 for corner in corners)
    if not measured:
        variance += _interpolation_error(nodes, logit) ** 2
    return value, variance, measured


def _around(name: str, x: float, known: set[float], of: str = "") -> _Corners:
    """Return the table's neighbours of x and their weights; one where x is among them."""
    low, high = min(known), max(known)
    remedy = f"the table holds {name} from {low:g} to {high:g}{of}; simulate it instead"
    require(low <= x <= high, name, x, remedy)
    below = max(k for k in known if k <= x)
    above = min(k for k in known if k >= x)
    share = 0.0 if above == below else _between(name, below, x, above)
    return ((below, 1 - share), (above, share)) if share else ((below, 1.0),)


def _between(name: str, below: float, x: float, above: float) -> float:
    if name == "noise":
        return (x - below) / (above - below)
    return math.log(x / below) / math.log(above / below)


def _interpolation_error(nodes: dict[_Place, _Node], logit: float) -> float:
    """Return the typical error of log N between two n: a quarter of that over two intervals.

    Each inner n is left out and interpolated from its neighbours; the error of a linear
    interpolation grows with the square of the gap, and within a gap it is half as wide.
    """
    errors = []
    for m, n, noise in nodes:
        sides = [nodes.get((m, k * n, noise)) for k in (0.5, 2.0)]
        if sides[0] is not None and sides[1] is not None:
            middle = (sides[0].at(logit) + sides[1].at(logit)) / 2
            errors.append(nodes[m, n, noise].at(logit) - middle)
    return math.sqrt(sum(e * e for e in errors) / len(errors)) / 4


def table_rows(results: Sequence[Result], write: str | None = None) -> list[dict[str, Any]]:
    """Return a row per fit: N50 and N95 with intervals; and put them into the advisor's file.

    Args:
        results: cells over rule, m, n, noise and samples.
        write: the file, in which fits at other places stay; None: none is written.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for r in sorted(results, key=lambda r: float(r.settings["samples"])):
        s = r.settings
        groups.setdefault((s["rule"], s["m"], s["n"], s.get("noise", 0.0)), []).append(r)
    kept, rows = [], []
    for (rule, m, n, noise), members in groups.items():
        samples = torch.tensor([r.settings["samples"] for r in members], dtype=torch.float64)
        for iterate, column in (("last", "last"), ("averaged", "ergodic")):
            if noise and iterate == "last":
                continue
            success = torch.tensor([r.columns[column] for r in members], dtype=torch.float64)
            rate = success.mean(1)
            if rate.max() < 0.9 or rate.min() > 0.15:
                continue  # the rise is not within the grid
            seeds = success.shape[1]
            generator = torch.Generator().manual_seed(0)
            picked = torch.randint(seeds, (_REPLICATES, seeds), generator=generator)
            rates = torch.cat([rate[None], success[:, picked].mean(2).T])
            centre, width = logistic(samples.log(), rates, seeds)
            spread = torch.cov(torch.stack([centre[1:], width[1:]]))
            covariance = [float(spread[i]) for i in ((0, 0), (0, 1), (1, 1))]
            node = _Node(float(centre[0]), float(width[0]), tuple(covariance))  # type: ignore[arg-type]
            place = dict(zip(_PLACE, (rule, m, n, noise, iterate), strict=True))
            kept.append(
                {
                    **place,
                    "centre": round(node.centre, 5),
                    "width": round(node.width, 5),
                    "covariance": [float(f"{c:.3g}") for c in covariance],
                }
            )
            rows.append({**place, "N50": _shown(node, 0.5), "N95": _shown(node, 0.95)})
    if write is not None:
        made = {tuple(row[key] for key in _PLACE) for row in kept}
        file = Path(write)
        before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else ()
        others = (row for row in before if tuple(row[key] for key in _PLACE) not in made)
        lines = ",\n".join(json.dumps(row) for row in [*others, *kept])
        about = "by the commands of docs/theory/tools.md"
        write_text(file, f'{{"made": "{about}", "rows": [\n{lines}\n]}}\n')
    return rows


def _shown(node: _Node, target: float) -> str:
    logit = math.log(target / (1 - target))
    spread = _Z95 * math.sqrt(node.variance(logit))
    low, value, high = (math.exp(node.at(logit) + s * spread) for s in (-1, 0, 1))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"
