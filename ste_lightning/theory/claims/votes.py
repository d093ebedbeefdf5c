"""Claims about the vote of signs in networks on pictures, beside averages of latent weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch

from ste_lightning.theory.claims.claim import Claim, Measured, at, measured
from ste_lightning.theory.claims.sources import OURS
from ste_lightning.theory.statistics import student_mean
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.votes import gains

__all__ = ["CLAIMS"]


def _gain(
    results: Sequence[Result], schedule: str, wrong: bool, over: str = "last"
) -> Measured | None:
    """Return the vote's mean gain over the cells, paired by the number of the network."""
    cells = [r for r in at(results, schedule=schedule) if (r.settings["wrong_labels"] > 0) == wrong]
    if len(cells) < 2:
        return None
    each = torch.tensor([gains(r, "vote", over) for r in cells], dtype=torch.float64)
    words = f"accuracy, vote less {over}, mean of {len(cells)} cells"
    return measured(words, student_mean(each.mean(0).tolist()))


def _instead(results: Sequence[Result]) -> Measured | None:
    """Return the vote's gain at a constant step over the last iterate of a falling one."""
    pairs = [
        (r, twin[0])
        for r in at(results, schedule="constant")
        if r.settings["wrong_labels"] > 0
        and (twin := at(results, **{**r.settings, "schedule": "linear"}))
    ]
    if len(pairs) < 2:
        return None
    each = [
        [a - b for a, b in zip(r.columns["vote"], twin.columns["last"], strict=True)]
        for r, twin in pairs
    ]
    mean = torch.tensor(each, dtype=torch.float64).mean(0)
    words = f"accuracy, vote at a constant step less last at a falling one, {len(each)} cells"
    return measured(words, student_mean(mean.tolist()))


CLAIMS = (
    Claim(
        "With wrong labels the vote at a constant step size is as good as a step size that falls",
        OURS,
        "averaging and cooling both stop the swinging: difference 0 or more",
        "votes",
        _instead,
        (-0.005, math.inf),
        "half a point, or better",
    ),
    *(
        Claim(
            text,
            OURS,
            derivation,
            "votes",
            functools.partial(_gain, schedule=schedule, wrong=wrong, over=over),
            holds,
            within,
        )
        for text, derivation, schedule, wrong, over, holds, within in (
            (
                "In a network the vote of signs is better than the last iterate: constant step "
                "size, wrong labels",
                "as for w*: weights swing, and no weight is wrong most of the time: gain above 0",
                "constant",
                True,
                "last",
                (0.0, math.inf),
                "",
            ),
            (
                "likewise with right labels",
                "finite samples are noise as well: gain above 0",
                "constant",
                False,
                "last",
                (0.0, math.inf),
                "",
            ),
            (
                "likewise where the step size falls to 0, wrong labels",
                "weights come to rest by themselves: gain above 0, but less of it",
                "linear",
                True,
                "last",
                (0.0, math.inf),
                "",
            ),
            (
                "The vote of signs is as good as the average of latent weights (SWA), wrong labels",
                "two averages of the same swinging: difference 0",
                "constant",
                True,
                "swa",
                (-0.005, math.inf),
                "half a point, or better",
            ),
        )
    ),
)
