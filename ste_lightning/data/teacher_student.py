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
from ste_lightning.models.streams import Stream, generator, normal

__all__ = ["TeacherStudent"]


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
            ``clusters``, ``exponential``, ``lognormal``, ``uniform``, ``bernoulli``,
            ``rademacher``, ``student_t``; real rows: ``digits``, ``fashion_mnist``,
            ``breast_cancer``, ``wine``, and normal ones with their moments: ``normal_like``), a
            mapping with ``name`` and parameters, or a tensor (rows, n) of real data.
        normalize: ``none``, ``center``, ``standardize`` (each feature), ``layer_norm`` (each row),
            ``standardize_layer_norm`` (one after the other) or ``whitening``.
        noise: standard deviation of the label noise, drawn once; default 0.
        v: the teacher's second layer: ``ones`` (1/sqrt(m) each) or ``gaussian`` (on the unit
            sphere).
        batch_size: samples of a step, the same rows for all trials; ``None``: all of them,
            and then every step is given the very same tensors.
        steps_per_epoch: steps in one Lightning epoch; default 1000. One epoch for the whole
            training costs least.
        seed: of everything drawn here.
        num_workers: processes that prepare minibatches; batches do not depend on it.
        first_trial: number of the first trial: to draw a part of a larger set; default 0.
        labels: what the teacher sees: ``normalized`` inputs, as the student, or ``raw`` ones;
            then it has a bias that the student lacks, and no student may be right everywhere.

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
        first_trial: int = 0,
        labels: str = "normalized",
    ) -> None:
        super().__init__()
        sizes = {"n": n, "m": m, "samples": samples, "trials": trials}
        for argument, value in {**sizes, "steps_per_epoch": steps_per_epoch}.items():
            require(value > 0, argument, value, "use a positive integer")
        require(noise >= 0, "noise", noise, "use a standard deviation >= 0")
        require(seed >= 0, "seed", seed, "use an integer >= 0")
        require(num_workers >= 0, "num_workers", num_workers, "use an integer >= 0")
        require(first_trial >= 0, "first_trial", first_trial, "use an integer >= 0")
        require(
            batch_size is None or 0 < batch_size <= samples,
            "batch_size",
            batch_size,
            f"use 1 to samples={samples}, or null for the full batch",
        )
        if v not in ("ones", "gaussian"):
            raise unknown("v", v, ("ones", "gaussian"))
        self.n, self.m, self.samples, self.trials = n, m, samples, trials
        if labels not in ("normalized", "raw"):
            raise unknown("labels", labels, ("normalized", "raw"))
        self.normalize, self.labels, self.noise, self.v = normalize, labels, noise, v
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.seed, self.num_workers, self.first_trial = seed, num_workers, first_trial
        self._law = input_law(inputs)
        self.law = _law_name(inputs)
        normalizer(normalize, torch.zeros(1, 2, 1, 1))  # an unknown name fails here, not in fit
        self._inputs: Tensor | None = None
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
    def inputs(self) -> Tensor:
        """The training inputs Z, normalized, (trials, samples, m, n)."""
        if self._inputs is None:
            self._inputs = self._normalized(Stream.INPUTS)
        return self._inputs

    @property
    def label_noise(self) -> Tensor:
        """What training labels add to the teacher's response to ``inputs``, (trials, samples).

        Noise, and with ``labels="raw"`` the response to raw inputs instead of normalized ones.
        """
        return self._label_noise(Stream.NOISE, self.inputs)

    @property
    def train_data(self) -> tuple[Tensor, Tensor]:
        """All training data: :attr:`inputs` and the labels y (trials, samples)."""
        if self._train is None:
            self._train = self._labelled(self.inputs, Stream.NOISE)
        return self._train

    def setup(self, stage: str) -> None:
        """Draw the data, on first use."""
        _ = self.train_data

    def train_dataloader(self) -> StepLoader:
        """Return ``steps_per_epoch`` batches per epoch."""
        Z, y = self.train_data
        if self.batch_size is None:
            return StepLoader(FullBatch(Z, y), self.steps_per_epoch)
        batches = Minibatches(Z, y, self.batch_size, (self.seed, Stream.BATCHES))
        return StepLoader(batches, self.steps_per_epoch, self.num_workers)

    def test_dataloader(self) -> StepLoader:
        """Return one batch of as many fresh samples of the same law, for the population loss."""
        Z = self._normalized(Stream.TEST_INPUTS)
        return StepLoader(FullBatch(*self._labelled(Z, Stream.TEST_NOISE)), 1)

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

    def _generators(self, stream: Stream) -> list[np.random.Generator]:
        trials = range(self.first_trial, self.first_trial + self.trials)
        return [generator(self.seed, stream, trial) for trial in trials]

    def _draw_teacher(self) -> tuple[Tensor, Tensor]:
        sign, v = torch.empty(self.trials, self.n), torch.ones(self.trials, self.m)
        for trial, rng in enumerate(self._generators(Stream.TEACHER)):
            sign[trial] = torch.from_numpy(rng.choice([-1.0, 1.0], self.n))
            if self.v == "gaussian":
                v[trial] = torch.from_numpy(rng.standard_normal(self.m))
        return sign / self.n**0.5, v / v.norm(dim=1, keepdim=True)

    def _raw(self, stream: Stream) -> Tensor:
        law: InputLaw = self._law
        Z = torch.empty(self.trials, self.samples, self.m, self.n)
        with np.errstate(over="ignore"):  # infinities are refused below, by name
            for trial, rng in enumerate(self._generators(stream)):
                Z[trial] = torch.from_numpy(law(rng, (self.samples, self.m, self.n)))
        return Z

    def _normalized(self, stream: Stream) -> Tensor:
        training = self._raw(Stream.INPUTS)
        normalize = normalizer(self.normalize, training)
        Z = normalize(training if stream == Stream.INPUTS else self._raw(stream)).contiguous()
        # A sum is faster; where it is finite so are all of its terms.
        finite = bool(Z.sum().isfinite()) or bool(Z.isfinite().all())
        require(finite, "inputs", "the data", "they contain NaN or infinity")
        return Z

    def _label_noise(self, stream: Stream, Z: Tensor) -> Tensor:
        added = torch.zeros(self.trials, self.samples)
        if self.noise:
            drawn = normal(self.seed, stream, self.trials, self.samples, self.first_trial)
            added = self.noise * drawn
        if self.labels == "raw":
            inputs = Stream.INPUTS if stream == Stream.NOISE else Stream.TEST_INPUTS
            added += self._response(self._raw(inputs)) - self._response(Z)
        return added

    def _response(self, Z: Tensor) -> Tensor:
        weight, v = self.teacher
        return response(Z, weight.sign(), v)

    def _labelled(self, Z: Tensor, noise: Stream) -> tuple[Tensor, Tensor]:
        y = self._response(Z)
        exact = not self.noise and self.labels == "normalized"
        return Z, y if exact else y + self._label_noise(noise, Z)
