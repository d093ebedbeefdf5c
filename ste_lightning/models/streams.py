"""Streams of random numbers of teacher-student problems, so that no draw shifts or repeats another.

A draw depends on (seed, stream, trial) alone: not on the number of trials, nor on which of them
are drawn together. Data and student have streams of their own, so with equal seeds the student's
start does not repeat the data.
"""

from __future__ import annotations

import enum

import numpy as np
import torch
from torch import Tensor

__all__ = ["Stream", "generator", "normal"]


class Stream(enum.IntEnum):
    """What a stream is for: the weight and v are the student's, the others the data's."""

    TEACHER = 0
    INPUTS = 1
    NOISE = 2
    BATCHES = 3
    TEST_INPUTS = 4
    TEST_NOISE = 5
    WEIGHT = 6
    V = 7
    SHIFTS = 8


def generator(seed: int, stream: Stream, trial: int) -> np.random.Generator:
    """Return the generator of one trial's draws from ``stream``."""
    return np.random.default_rng([seed, int(stream), trial])


def normal(seed: int, stream: Stream, trials: int, size: int, first: int = 0) -> Tensor:
    """Return standard normal numbers (trials, size), a generator per trial from ``first`` on."""
    drawn = [
        generator(seed, stream, trial).standard_normal(size, dtype=np.float32)
        for trial in range(first, first + trials)
    ]
    return torch.as_tensor(np.stack(drawn))
