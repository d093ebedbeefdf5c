"""Claimed, predicted, measured: what papers say, and what the stored results of studies say.

A claim (:class:`.claim.Claim`) stands with those of its study in a module of this folder, and in
:data:`CLAIMS`. ``python -m ste_lightning.study +recipe=NAME keep=results/theory`` keeps a study's
results, ``python -m ste_lightning.results claims`` makes the page of them.
"""

from ste_lightning.theory.claims import (
    bands,
    disguise,
    linear,
    networks,
    oscillation,
    proximal,
    real_rows,
    samples,
    two_layer,
    votes,
    wandering,
)
from ste_lightning.theory.claims.claim import Claim, Measured

__all__ = ["CLAIMS", "Claim", "Measured"]

CLAIMS: tuple[Claim, ...] = (
    *two_layer.CLAIMS,
    *linear.CLAIMS,
    *disguise.CLAIMS,
    *bands.CLAIMS,
    *proximal.CLAIMS,
    *oscillation.CLAIMS,
    *networks.CLAIMS,
    *real_rows.CLAIMS,
    *samples.CLAIMS,
    *votes.CLAIMS,
    *wandering.CLAIMS,
)
"""All claims; the page sorts them by source."""
