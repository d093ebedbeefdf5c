"""A chunk of trials: the data of :class:`ste_lightning.data.TeacherStudent`, the start of
:class:`ste_lightning.models.BinaryTwoLayer`, both for the same seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, normal

__all__ = ["Problem", "ProblemLaw"]

_STARTS = ("teacher", "opposite", "zeros", "random", "gaussian")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Teacher-student problems, one per trial along the leading axis B.

    Attributes:
        inputs: Z, normalized, (B, N, m, n).
        teacher: signs of w*, (B, n).
        v_teacher: v*, (B, m).
        noise: what labels add to the teacher's response to ``inputs``, (B, N); zeros without
            label noise.
        latent: latent weights x_0, (B, n).
        v: the student's second layer at the start, (B, m).
    """

    inputs: Tensor
    teacher: Tensor
    v_teacher: Tensor
    noise: Tensor
    latent: Tensor
    v: Tensor


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
    labels: str
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
        if isinstance(self.v_init, str) and self.v_init not in _STARTS:
            raise unknown("v_init", self.v_init, _STARTS)

    def draw(self, first: int, count: int) -> Problem:
        """Return the trials ``first`` to ``first + count - 1``."""
        source = self._source(first, count)
        weight, v_teacher = source.teacher
        if isinstance(self.v, Tensor):
            v_teacher = _rows(self.v, first, count)
        latent = self.init_scale * normal(self.seed, Stream.WEIGHT, count, self.n, first)
        v = self._student(first, v_teacher)
        return Problem(source.inputs, weight.sign(), v_teacher, source.label_noise, latent, v)

    def _student(self, first: int, v_teacher: Tensor) -> Tensor:
        count = len(v_teacher)
        if isinstance(self.v_init, Tensor):
            return _rows(self.v_init, first, count)
        if self.v_init in ("teacher", "opposite"):
            return v_teacher.clone() if self.v_init == "teacher" else -v_teacher
        if self.v_init == "zeros":
            return torch.zeros_like(v_teacher)
        start = torch.ones_like(v_teacher)
        gaussian = isinstance(self.v, str) and self.v == "gaussian"
        if gaussian or self.v_init == "gaussian":
            start = normal(self.seed, Stream.V, count, self.m, first)
        return torch.nn.functional.normalize(start, dim=1)

    def _source(self, first: int, count: int) -> TeacherStudent:
        return TeacherStudent(
            self.n,
            self.m,
            self.samples,
            count,
            self.inputs,
            self.normalize,
            self.noise,
            "ones" if isinstance(self.v, Tensor) else self.v,
            seed=self.seed,
            first_trial=first,
            labels=self.labels,
        )


def _rows(v: Tensor, first: int, count: int) -> Tensor:
    v = v.detach().to("cpu", torch.float32)
    rows = v.expand(count, -1) if v.dim() == 1 else v[first : first + count]
    return rows.contiguous()
