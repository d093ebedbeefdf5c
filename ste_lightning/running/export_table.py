"""Every format of a packed network in one table: what was written, run and measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch import Tensor, nn

from ste_lightning.convert import dequantize_
from ste_lightning.deploy.export import FORMATS, export, runtime
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.report import interleaved_latency
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.progress import progress
from ste_lightning.io.whole_file import written_together
from ste_lightning.running.tables import table

__all__ = ["agreement", "export_all", "one_by_one"]

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Row:
    """A format's row.

    Attributes:
        size: bytes of the file, ``None`` where none was kept.
        exact: how many predictions differ, or why that is not known.
        right: whether what was run is right.
        times: of one sample in seconds, exported and float.
    """

    size: int | None
    exact: str
    right: bool = True
    times: tuple[float, ...] = ()


def agreement(
    output: Tensor, expected: Tensor, rounds: bool = False
) -> tuple[int, int, float, bool]:
    """Compare a runtime's results with those expected.

    Where floats run beside packed layers, as along shortcuts, another order of their sums turns a
    code at a tie now and then; that changes few samples, and hardly a prediction. What changes
    more than a tenth of the samples, or 0.1 % of the predictions, is a fault.

    Args:
        output, expected: a row for each sample.
        rounds: whether the runtime rounds codes by its own arithmetic: only predictions count.

    Returns:
        How many predictions differ, how many samples by more than rounding, the largest
        difference, and whether that is right.
    """
    errors = (output - expected).abs().reshape(len(output), -1).amax(1)
    turned = int((errors > 1e-4 * max(float(expected.abs().max()), 1.0)).sum())
    different = int((output.argmax(-1) != expected.argmax(-1)).sum())
    right = (rounds or turned <= len(errors) // 10) and different <= len(output) // 1000
    return different, turned, float(errors.max()), right and not bool(errors.isnan().any())


def one_by_one(format: str, dynamic: bool | str | None) -> bool:
    """Return whether a format's file takes one sample at a time."""
    return FORMATS[format].fixed if dynamic is None else not dynamic


def export_all(
    console: Console,
    model: nn.Module,
    network: PackedNetwork,
    samples: Tensor,
    stem: str,
    dynamic: bool | str | None,
    seconds: float,
) -> bool:
    """Write a packed network in every format, run each file that can be run here, and print.

    Args:
        console: where to print.
        model: the trained model, of which a float twin is measured in each runtime.
        network: its packed form.
        samples: on which predictions are compared.
        stem: the beginning of the files' names.
        dynamic: whether the batch size stays free; ``None`` as each format has it.
        seconds: how long each is measured.

    Returns:
        Whether all files that were run predict what the packed network predicts; others are not
        kept.
    """
    twin = copy.deepcopy(model)
    dequantize_(twin)
    plain = PackedNetwork(twin.eval(), fold=False)
    expected = network(samples)
    shown = table(
        f"{stem}.*, time of one sample, threads: {torch.get_num_threads()}",
        *("format", "bytes", "runs in", "exact", "time", "float there"),
    )
    right = True
    with progress() as bar:
        for name, known in bar.track(FORMATS.items(), description=f"{len(FORMATS)} formats"):
            row = _row(name, plain, network, samples, expected, stem, dynamic, seconds)
            right &= row.right
            size = "" if row.size is None else f"{row.size:,}"
            times = [f"{time * 1e3:.3f} ms" for time in row.times]
            shown.add_row(name, size, known.runs_in, row.exact, *(times or ["", ""]))
    console.print(shown)
    return right


def _row(
    name: str,
    plain: PackedNetwork,
    network: PackedNetwork,
    samples: Tensor,
    expected: Tensor,
    stem: str,
    dynamic: bool | str | None,
    seconds: float,
) -> _Row:
    one = one_by_one(name, dynamic)
    example = samples[:1] if one else samples
    path = Path(f"{stem}.{FORMATS[name].ending}")
    try:
        with written_together(path) as temporary:
            export(network, temporary, name, example, dynamic)
            size = temporary.stat().st_size
            run = _opened(temporary, name, one)
            if run is None:
                return _Row(size, "not run here")
            different, turned, worst, right = agreement(run(samples), expected)
            exact = f"{different} of {len(samples)} differ"
            exact += f", {turned} samples by a tie" if turned else ""
            if not right:
                raise _WrongError(f"{exact}, by up to {worst:.1e}: not kept")
    except _WrongError as error:
        return _Row(None, str(error), right=False)
    except ConfigurationError as error:
        return _Row(None, f"not written: {error}")
    with TemporaryDirectory() as folder:
        beside = _opened(
            export(plain, f"{folder}/float.{FORMATS[name].ending}", name, example, dynamic),
            name,
            one,
        )
        assert beside is not None
        x = samples[:1]
        times = interleaved_latency([lambda: run(x), lambda: beside(x)], seconds)
    return _Row(size, exact, True, tuple(times))


class _WrongError(Exception):
    """A file that does not predict what it should."""


def _opened(path: Path, name: str, one: bool) -> Run | None:
    return runtime(path, name, 1 if one else None)
