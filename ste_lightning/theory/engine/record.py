"""What a run of the engine records, per trial, whichever backend ran it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

__all__ = ["Record"]


@dataclasses.dataclass
class Record:
    """Statistics of a chunk of B trials over T steps, in place.

    Iterate t is the state after t updates; t = 1, ..., T count for averages and visits.

    Attributes:
        first_hit: first t with w_t = w*, 0 for a start there, -1 for never; (B,).
        visits: iterates at w* after the burn-in; (B,).
        escapes, returns: steps from w* and to w* (not the first hit) after the burn-in; (B,).
        time_away: total length of the counted returns; (B,).
        longest_return: the longest of them; (B,).
        flips: sign changes of latent weights; (B,).
        evaluations: coarse gradients computed; (B,).
        frozen_at: step from which the gradient is exactly zero to the end, else -1; (B,).
        sign_sum: sum of the binary iterates; (B, n).
        hamming, loss: at t = 0, every, 2 every, ...; (B, T // every + 1).
        final_loss: loss of w_T; (B,).
        return_histogram: returns by length, bin k for k + 1, the last for more; (B, bins).
        latent: latent weights, x_0 before and x_T after the run; (B, n).
        v: second layer, likewise; (B, m).
        gradient: the last coarse gradient computed; (B, n).
        teacher_gradient: the coarse gradient at w*; (B, n).
    """

    first_hit: Tensor
    visits: Tensor
    escapes: Tensor
    returns: Tensor
    time_away: Tensor
    longest_return: Tensor
    flips: Tensor
    evaluations: Tensor
    frozen_at: Tensor
    sign_sum: Tensor
    hamming: Tensor
    loss: Tensor
    final_loss: Tensor
    return_histogram: Tensor
    latent: Tensor
    v: Tensor
    gradient: Tensor
    teacher_gradient: Tensor

    @classmethod
    def empty(cls, latent: Tensor, v: Tensor, steps: int, every: int, bins: int) -> Record:
        """Return the record of a run that has not begun, with copies of ``latent`` and ``v``."""
        trials, n = latent.shape
        columns = steps // every + 1
        device = latent.device

        def integers(*shape: int, start: int = 0) -> Tensor:
            return torch.full((trials, *shape), start, dtype=torch.int64, device=device)

        def floats(*shape: int) -> Tensor:
            return torch.zeros((trials, *shape), device=device)

        return cls(
            first_hit=integers(start=-1),
            visits=integers(),
            escapes=integers(),
            returns=integers(),
            time_away=integers(),
            longest_return=integers(),
            flips=integers(),
            evaluations=integers(),
            frozen_at=integers(start=-1),
            sign_sum=integers(n),
            hamming=torch.zeros(trials, columns, dtype=torch.int32, device=device),
            loss=floats(columns),
            final_loss=floats(),
            return_histogram=integers(bins),
            latent=latent.clone(),
            v=v.clone(),
            gradient=floats(n),
            teacher_gradient=floats(n),
        )

    def take(self, first: int, part: Record) -> None:
        """Copy the record of a chunk, from whichever device, to the trials from ``first`` on."""
        for field in dataclasses.fields(self):
            rows: Tensor = getattr(part, field.name)
            getattr(self, field.name)[first : first + len(rows)].copy_(rows)
