"""An exported file run where its runtime is installed, beside the packed network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.export.formats import FORMATS
from ste_lightning.deploy.export.order import MissingPackageError, Run, in_batches
from ste_lightning.deploy.graph.proof import largest
from ste_lightning.deploy.graph.trees import tensors_in
from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["Agreement", "agreement", "runtime", "verified"]

_ROUNDING, _RUNTIME = 1e-4, 1e-2  # of the largest result: rounding, and a runtime's own arithmetic


@dataclass(frozen=True)
class Agreement:
    """How a runtime's results differ from those expected.

    Attributes:
        samples: how many were compared.
        different: whose largest result is another one, by more than rounding.
        turned: that differ by more than rounding.
        worst: the largest difference.
        right: whether that is what ties explain.
    """

    samples: int
    different: int
    turned: int
    worst: float
    right: bool

    def __str__(self) -> str:
        """Return it in words."""
        ties = f", {self.turned} by more than rounding" if self.turned else ""
        return f"{self.different} of {self.samples} differ{ties}"


def agreement(output: Any, expected: Any, rounds: bool = False) -> Agreement:
    """Compare results.

    Where floats run beside packed layers, as along shortcuts, another order of their sums turns a
    code at a tie now and then; that changes few samples, and hardly a prediction. What changes
    more than a tenth of the samples (or one, of fewer than ten), or 0.1 % of the predictions, is a
    fault.

    Args:
        output, expected: tensors, or trees of them, with a row for each sample.
        rounds: whether the runtime rounds codes by its own arithmetic, which changes all results
            a little.
    """
    ours, theirs = tensors_in(output), tensors_in(expected)
    shapes = [[tuple(tensor.shape) for tensor in given] for given in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(f"results have shapes {shapes[0]} instead of {shapes[1]}.")
    samples = max((len(y) for y in theirs if y.dim()), default=1)
    different, turned = (torch.zeros(samples, dtype=torch.bool) for _ in range(2))
    worst = 0.0
    for y, wanted in zip(ours, theirs, strict=True):
        y, wanted = y.double(), wanted.double()
        same = (y == wanted) | (y.isnan() & wanted.isnan())
        error = torch.where(same, 0.0, (y - wanted).abs()).nan_to_num(torch.inf, torch.inf)
        worst = max(worst, float(error.max()) if error.numel() else 0.0)
        rounding = _ROUNDING * largest(wanted)
        allowed = _RUNTIME * largest(wanted) if rounds else rounding
        turned |= _any(error > allowed, samples)
        if y.dim() > 1 and y.numel():
            chosen = wanted.gather(-1, y.argmax(-1, keepdim=True))
            different |= _any(wanted.amax(-1, keepdim=True) - chosen > rounding, samples)
    counts = int(different.sum()), int(turned.sum())
    right = counts[0] <= samples // 1000 and counts[1] <= max(samples // 10, int(samples > 1))
    return Agreement(samples, *counts, worst, right and worst < torch.inf)


def _any(found: Tensor, samples: int) -> Tensor:
    """Return for which samples something was found; for all, if its rows are not samples."""
    if found.dim() and len(found) == samples:
        return found.reshape(samples, -1).any(1)
    return found.any()


def runtime(path: str | Path, format: str, batch: int | None = None) -> Run | None:
    """Return a function that runs an exported file, or ``None`` for what cannot run here.

    Args:
        path: the exported file.
        format: the format it was exported to.
        batch: how many samples the file takes, if their number is fixed.

    Raises:
        ConfigurationError: for an unknown format or a missing package.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    opened = FORMATS[format].open
    run = None if opened is None else opened(Path(path))
    return None if run is None else in_batches(run, batch)


def verified(
    path: Path,
    format: str,
    inputs: tuple[Tensor, ...],
    expected: Any,
    batch: int | None = None,
    rounds: bool = False,
) -> tuple[Run | None, Agreement | None, str]:
    """Run an exported file where that is possible.

    Args:
        path: the file.
        format: its format.
        inputs: of the packed network.
        expected: what it returned for them.
        batch: how many samples the file takes, if their number is fixed.
        rounds: whether the runtime rounds codes by its own arithmetic.

    Returns:
        What runs the file, how its results agree, and why neither is known.

    Raises:
        ConfigurationError: for a file that its runtime does not take.
    """
    name = FORMATS[format].runs_in
    if FORMATS[format].open is None:
        return None, None, "not run: it holds weights alone"
    try:
        run = runtime(path, format, batch)
        if run is None:
            return None, None, f"not run: {name} is not installed"
        return run, agreement(run(*inputs), expected, rounds), ""
    except MissingPackageError as error:
        return None, None, f"not run: {error}"
    except ConfigurationError:
        raise
    except Exception as error:  # whatever another runtime raises
        reason = str(error).strip().partition("\n")[0]
        raise ConfigurationError(
            f"{name} does not run what format={format!r} wrote: {reason}"
        ) from error
