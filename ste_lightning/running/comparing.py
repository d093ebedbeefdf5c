"""The work of ``python -m ste_lightning.diff``: a packed file beside the model it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ste_lightning.deploy.compare import Difference, compared
from ste_lightning.deploy.file.load import load
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.deploy.predict.inputs import info_of, open_inputs
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.running.quiet import quiet
from ste_lightning.running.restoring import evaluation_samples, restored

__all__ = ["KEYS", "run_diff"]

KEYS = ("ckpt_path", "model", "input", "config", "samples")


def run_diff(
    ckpt_path: str,
    model: str,
    input: str | None = None,
    config: str | None = None,
    samples: str = "64",
) -> bool:
    """Print how each layer of a packed file differs from the trained model's, on equal inputs.

    Args:
        ckpt_path, model, input, config, samples: as on the command line.

    Returns:
        Whether rounding explains all differences.

    Raises:
        ConfigurationError: for settings, files and inputs that cannot work.
    """
    sound = samples.isdecimal() and len(samples) < 10 and 0 < int(samples) < 1 << 20
    require(sound, "samples", samples, "use a positive integer")
    packed = load(model)
    with quiet():
        trained, data = restored(ckpt_path, config)
        if input is None:
            x = evaluation_samples(data, int(samples))
        else:
            x = _read(input, packed, int(samples))
        args, kwargs = arguments(x)
        rows = compared(trained, packed, *args, **kwargs)
        with torch.no_grad():
            outputs = trained(*args, **kwargs), packed(*args, **kwargs)
    console = Console()
    _print(console, model, rows)
    if all(isinstance(y, Tensor) and y.dim() > 1 for y in outputs):
        different = int((outputs[0].argmax(1) != outputs[1].argmax(1)).sum())
        console.print(f"{different} of {len(outputs[0])} predictions differ", highlight=False)
    wrong = next((row for row in rows if not row.equal), None)
    if wrong is not None:
        where = f"layer {wrong.name!r}" if wrong.name else "the output"
        console.print(f"the first that differs by more than rounding: {where}", highlight=False)
    return wrong is None


def _read(path: str, packed: PackedNetwork, count: int) -> Any:
    batch = next(open_inputs(path, packed, info_of(packed)).batches(count), None)
    if batch is None or not batch.names:
        reason = f": {batch.failed[0][1]}" if batch is not None and batch.failed else ""
        raise ConfigurationError(f"input={path!r} cannot be used: it holds no sample{reason}.")
    return batch.x


def _print(console: Console, title: str, rows: Sequence[Difference]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False)
    columns = ("layer", "kind", "inputs differ by", "results differ by", "rounding", "")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(
            row.name or "(output)",
            row.kind,
            f"{row.before:.1e}",
            f"{row.result:.1e}",
            f"{row.tolerance:.0e}",
            "equal" if row.equal else "DIFFERS",
        )
    console.print(table)
    console.print("relative to the largest number; each layer is given what the trained one got")
