"""A chunk of trials: the data of :class:`ste_lightning.data.TeacherStudent`, the start of
:class:`ste_lightning.models.BinaryTwoLayer`, both for the same seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning.data import TeacherStudent
from ste_lightning.data.normalize import normalizer
from ste_lightning.data.teacher_student import _INPUTS, _NOISE
from ste_lightning.errors import require, unknown
from ste_lightning.models.two_layer import _V, _WEIGHT

__all__ = ["Problem", "ProblemLaw"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Teacher-student problems, one per trial along the leading axis B.

    Attributes:
        inputs: Z, normalized, (B, N, m, n).
        teacher: signs of w*, (B, n).
        v_teacher: v*, (B, m).
        noise: label noise, already scaled, (B, N); zeros without noise.
        latent: latent weights x_0, (B, n).
        v: the student's second layer at the start, (B, m).
    """

    inputs: Tensor
    teacher: Tensor
    v_teacher: Tensor
    noise: Tensor
    latent: Tensor
    v: Tensor


class _Later(TeacherStudent):
    """The trials from ``first`` on of a teacher-student problem."""

    first = 0

    def _rng(self, stream: int, trial: int) -> np.random.Generator:
        return super()._rng(stream, self.first + trial)


@dataclasses.dataclass(frozen=True)
class ProblemLaw:
    """What a problem is drawn from; trial t depends on (seed, t) alone.

    Attributes: as the arguments of :func:`ste_lightning.theory.simulate`.
    """

    n: int
    m: int
    samples: int
    inputs: str | Mapping[str, Any] | Tensor
    normalize: str
    noise: float
    v: str | Tensor
    v_init: str | Tensor
    init_scale: float
    seed: int

    def __post_init__(self) -> None:
        """Check everything, before the first draw."""
        self._source(0, 1)
        require(self.init_scale > 0, "init_scale", self.init_scale, "use a positive number")
        for argument, v in (("v", self.v), ("v_init", self.v_init)):
            if isinstance(v, Tensor):
                shape = tuple(v.shape)
                require(v.dim() in (1, 2), argument, shape, "use the shape (m,) or (trials, m)")
                require(shape[-1] == self.m, argument, shape, f"its last axis must be m={self.m}")
                require(bool(v.isfinite().all()), argument, v, "it must be finite")
        if isinstance(self.v_init, str) and self.v_init not in ("teacher", "zeros", "random"):
            raise unknown("v_init", self.v_init, ("teacher", "zeros", "random"))

    def draw(self, first: int, count: int) -> Problem:
        """Return the trials ``first`` to ``first + count - 1``."""
        source = self._source(first, count)
        raw = source._inputs(_INPUTS)
        Z = normalizer(self.normalize, raw)(raw).contiguous()
        require(bool(Z.isfinite().all()), "inputs", "the data", "they contain NaN or infinity")
        weight, v_teacher = source.teacher
        if isinstance(self.v, Tensor):
            v_teacher = _rows(self.v, first, count)
        noise = torch.zeros(count, self.samples)
        latent = torch.empty(count, self.n)
        for trial in range(count):
            if self.noise:
                drawn = source._rng(_NOISE, trial).standard_normal(self.samples, dtype=np.float32)
                noise[trial] = self.noise * torch.from_numpy(drawn)
            start = source._rng(_WEIGHT, trial).standard_normal(self.n, dtype=np.float32)
            latent[trial] = self.init_scale * torch.from_numpy(start)
        v = self._student(source, first, count, v_teacher)
        return Problem(Z, weight.sign(), v_teacher, noise, latent, v)

    def _student(self, source: _Later, first: int, count: int, v_teacher: Tensor) -> Tensor:
        if isinstance(self.v_init, Tensor):
            return _rows(self.v_init, first, count)
        if self.v_init == "teacher":
            return v_teacher.clone()
        v = torch.zeros_like(v_teacher)
        if self.v_init == "random":
            v += 1.0
            for trial in range(count if isinstance(self.v, str) and self.v == "gaussian" else 0):
                drawn = source._rng(_V, trial).standard_normal(self.m, dtype=np.float32)
                v[trial] = torch.from_numpy(drawn)
        return torch.nn.functional.normalize(v, dim=1)

    def _source(self, first: int, count: int) -> _Later:
        source = _Later(
            self.n,
            self.m,
            self.samples,
            count,
            self.inputs,
            self.normalize,
            self.noise,
            "ones" if isinstance(self.v, Tensor) else self.v,
            seed=self.seed,
        )
        source.first = first
        return source


def _rows(v: Tensor, first: int, count: int) -> Tensor:
    v = v.detach().to("cpu", torch.float32)
    rows = v.expand(count, -1) if v.dim() == 1 else v[first : first + count]
    return rows.contiguous()
