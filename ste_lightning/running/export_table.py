"""Every format of a packed network in one table: what was written, run and measured."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch import Tensor, nn

from ste_lightning.convert import dequantize_
from ste_lightning.deploy.export import FORMATS, runtime
from ste_lightning.deploy.export.export import write
from ste_lightning.deploy.export.verified import verified
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.report import interleaved_latency
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.progress import progress
from ste_lightning.io.whole_file import written_together
from ste_lightning.running.tables import table

__all__ = ["export_all", "one_by_one"]


@dataclass(frozen=True)
class _Row:
    """A format's row.

    Attributes:
        size: bytes of the file, ``None`` where none was kept.
        exact: how many predictions differ, or why that is not known.
        right: whether what was run is right.
        times: of one sample in seconds, exported and, where there is one, float.
    """

    size: int | None
    exact: str
    right: bool = True
    times: tuple[float, ...] = ()


class _WrongError(Exception):
    """A file that does not predict what it should."""


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
            shown.add_row(name, size, known.runs_in, row.exact, *times)
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
    example, batch = (samples[:1], 1) if one else (samples, None)
    path = Path(f"{stem}.{FORMATS[name].ending}")
    try:
        with written_together(path) as temporary:
            write(network, temporary, name, example, dynamic)
            size = temporary.stat().st_size
            try:
                run, found, reason = verified(temporary, name, (samples,), expected, batch)
            except ConfigurationError as error:
                raise _WrongError(f"{error} Not kept.") from error
            if run is None or found is None:
                return _Row(size, reason)
            if not found.right:
                raise _WrongError(f"{found}, by up to {found.worst:.1e}: not kept")
    except _WrongError as error:
        return _Row(None, str(error), right=False)
    except ConfigurationError as error:
        return _Row(None, f"not written: {error}")
    x = samples[:1]
    calls = [lambda: run(x)]
    with TemporaryDirectory() as folder, suppress(ConfigurationError):  # what it cannot is no fault
        twin = Path(folder) / f"float.{FORMATS[name].ending}"
        write(plain, twin, name, example, dynamic)
        beside = runtime(twin, name, batch)
        assert beside is not None
        calls.append(lambda: beside(x))
    return _Row(size, str(found), True, tuple(interleaved_latency(calls, seconds)))
