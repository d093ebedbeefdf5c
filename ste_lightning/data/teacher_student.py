"""Many teacher-student problems at once: the data of the paper's two-layer network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from ste_lightning.data.batches import FullBatch, Minibatches, StepLoader
from ste_lightning.data.inputs import InputLaw, input_law
from ste_lightning.data.normalize import normalizer
from ste_lightning.errors import require, unknown
from ste_lightning.models.coarse_gradient import response

__all__ = ["TeacherStudent"]

# Streams of random numbers, so that one draw never shifts another.
_TEACHER, _INPUTS, _NOISE, _BATCHES, _TEST_INPUTS, _TEST_NOISE = range(6)


def _law_name(inputs: str | Mapping[str, Any] | Tensor) -> str:
    """Return the input distribution's name, for titles."""
    if isinstance(inputs, Mapping):
        return str(inputs.get("name"))
    return inputs if isinstance(inputs, str) else "given"


class TeacherStudent(L.LightningDataModule):
    """Labels of binary two-layer teachers: y_i = v*^T step(Z_i w*) + noise * N(0, 1).

    Every trial has its own teacher, inputs and label noise, drawn by (seed, trial): the data
    of a trial depend neither on the number of trials nor, in their first rows, on the number
    of samples (except for real data and normalization). The teacher acts on the *normalized*
    inputs. Labels come from the kernel that trains the student, so without noise the teacher
    has exactly zero loss.

    Batches are ``(Z, y)`` of shapes (trials, N, m, n) and (trials, N).

    Args:
        n: inputs of the first layer.
        m: rows of a sample, hidden units.
        samples: N, samples of a trial.
        trials: independent problems, solved side by side; default 1.
        inputs: distribution of the entries of Z: a name (``gaussian``, ``correlated``,
            ``exponential``, ``uniform``, ``bernoulli``, ``student_t``, ``digits``), a mapping
            with ``name`` and parameters, or a tensor (rows, n) of real data.
        normalize: ``none``, ``standardize``, ``layer_norm`` or ``whitening``.
        noise: standard deviation of the label noise, drawn once; default 0.
        v: the teacher's second layer: ``ones`` (1/sqrt(m) each) or ``gaussian`` (on the unit
            sphere).
        batch_size: samples of a step, the same rows for all trials; ``None``: all of them,
            and then every step is given the very same tensors.
        steps_per_epoch: steps in one Lightning epoch; default 1000. One epoch for the whole
            training costs least.
        seed: of everything drawn here.
        num_workers: processes that prepare minibatches; batches do not depend on it.

    Raises:
        ConfigurationError: for a size that is not positive, negative noise, a batch larger
            than the data, unknown names, and inputs that are not finite.

    Source: arXiv 2505.18113 (setting); Yin et al. 2019, arXiv 1903.05662, section 2.
    """

    def __init__(
        self,
        n: int,
        m: int,
        samples: int,
        trials: int = 1,
        inputs: str | Mapping[str, Any] | Tensor = "gaussian",
        normalize: str = "none",
        noise: float = 0.0,
        v: str = "ones",
        batch_size: int | None = None,
        steps_per_epoch: int = 1000,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"n": n, "m": m, "samples": samples, "trials": trials}
        for argument, value in {**sizes, "steps_per_epoch": steps_per_epoch}.items():
            require(value > 0, argument, value, "use a positive integer")
        require(noise >= 0, "noise", noise, "use a standard deviation >= 0")
        require(seed >= 0, "seed", seed, "use an integer >= 0")
        require(num_workers >= 0, "num_workers", num_workers, "use an integer >= 0")
        require(
            batch_size is None or 0 < batch_size <= samples,
            "batch_size",
            batch_size,
            f"use 1 to samples={samples}, or null for the full batch",
        )
        if v not in ("ones", "gaussian"):
            raise unknown("v", v, ("ones", "gaussian"))
        self.n, self.m, self.samples, self.trials = n, m, samples, trials
        self.normalize, self.noise, self.v = normalize, noise, v
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.seed, self.num_workers = seed, num_workers
        self._law = input_law(inputs)
        self.law = _law_name(inputs)
        normalizer(normalize, torch.zeros(1, 2, 1, 1))  # an unknown name fails here, not in fit
        self._train: tuple[Tensor, Tensor] | None = None
        self._teacher: tuple[Tensor, Tensor] | None = None
        self._on_device: tuple[Tensor, Tensor, tuple[Tensor, Tensor]] | None = None

    @property
    def teacher(self) -> tuple[Tensor, Tensor]:
        """The teachers: binary weights w* = +-1/sqrt(n), (trials, n), and v*, (trials, m)."""
        if self._teacher is None:
            self._teacher = self._draw_teacher()
        return self._teacher

    @property
    def train_data(self) -> tuple[Tensor, Tensor]:
        """All training data: Z (trials, samples, m, n), normalized, and y (trials, samples)."""
        if self._train is None:
            self._train = self._draw(_INPUTS, _NOISE)
        return self._train

    def setup(self, stage: str) -> None:
        """Draw the data, on first use."""
        _ = self.train_data

    def train_dataloader(self) -> StepLoader:
        """Return ``steps_per_epoch`` batches per epoch."""
        Z, y = self.train_data
        if self.batch_size is None:
            return StepLoader(FullBatch(Z, y), self.steps_per_epoch)
        batches = Minibatches(Z, y, self.batch_size, (self.seed, _BATCHES))
        return StepLoader(batches, self.steps_per_epoch, self.num_workers)

    def test_dataloader(self) -> StepLoader:
        """Return one batch of as many fresh samples of the same law, for the population loss."""
        return StepLoader(FullBatch(*self._draw(_TEST_INPUTS, _TEST_NOISE)), 1)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch; a full batch only once, so that the same tensors come again."""
        Z, y = batch
        if Z.device == device:
            return batch
        if self._on_device is None or self._on_device[0] is not Z or self._on_device[1] is not y:
            self._on_device = (Z, y, (Z.to(device), y.to(device)))
        return self._on_device[2]

    def _rng(self, stream: int, trial: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, trial])

    def _draw_teacher(self) -> tuple[Tensor, Tensor]:
        sign, v = torch.empty(self.trials, self.n), torch.ones(self.trials, self.m)
        for trial in range(self.trials):
            rng = self._rng(_TEACHER, trial)
            sign[trial] = torch.from_numpy(rng.choice([-1.0, 1.0], self.n))
            if self.v == "gaussian":
                v[trial] = torch.from_numpy(rng.standard_normal(self.m))
        return sign / self.n**0.5, v / v.norm(dim=1, keepdim=True)

    def _inputs(self, stream: int) -> Tensor:
        law: InputLaw = self._law
        Z = torch.empty(self.trials, self.samples, self.m, self.n)
        for trial in range(self.trials):
            with np.errstate(over="ignore"):  # infinities are refused below, by name
                drawn = law(self._rng(stream, trial), (self.samples, self.m, self.n))
            Z[trial] = torch.from_numpy(drawn)
        return Z

    def _draw(self, inputs: int, noise: int) -> tuple[Tensor, Tensor]:
        raw = self._inputs(_INPUTS)
        normalized = normalizer(self.normalize, raw)
        Z = normalized(raw if inputs == _INPUTS else self._inputs(inputs)).contiguous()
        require(bool(Z.isfinite().all()), "inputs", "the data", "they contain NaN or infinity")
        weight, v = self.teacher
        y = response(Z, weight.sign(), v)
        if self.noise:
            for trial in range(self.trials):
                drawn = self._rng(noise, trial).standard_normal(self.samples, dtype=np.float32)
                y[trial] += self.noise * torch.from_numpy(drawn)
        return Z, y
