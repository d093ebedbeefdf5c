"""Backward rules that are windows, of one bit per element."""

from __future__ import annotations

from ste_lightning import functional as SF

__all__ = ["windows"]


def windows() -> list[SF.Surrogate]:
    return [
        SF.surrogate("clipped"),
        SF.surrogate("clipped", width=0.6),
        SF.surrogate("relu"),
        SF.surrogate("clipped_relu", upper=0.7),
        SF.surrogate("leaky", leak=0.25),
    ]
