"""Print what the quantized model consists of and costs, when training starts."""

from __future__ import annotations

import lightning as L
from rich.console import Console
from rich.table import Table

from ste_lightning.convert import Summary, summary

__all__ = ["QuantizationSummary"]


class QuantizationSummary(L.Callback):
    """Takes the place of ``RichModelSummary``: bits, sizes, products and training memory.

    Products and bytes saved for backward are shown where the module has an
    ``example_input_array``.

    Attributes:
        summary: the last summary that was printed.
    """

    def __init__(self) -> None:
        self.summary: Summary | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table, on the first process only."""
        sample = pl_module.example_input_array
        if sample is not None:
            sample = pl_module._apply_batch_transfer_handler(sample)
        self.summary = summary(pl_module, sample)
        if trainer.is_global_zero:
            _print(self.summary)


def _print(made: Summary) -> None:
    head, rows = made.table()
    table = Table(header_style="bold")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index < 3 else "right", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for line in made.footer():
        console.print(line, highlight=False)
