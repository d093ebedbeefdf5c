"""The rows and totals of a summary, and how they print."""

from __future__ import annotations

import dataclasses
from typing import Any

from ste_lightning.io.html import html_table
from ste_lightning.quantizers import FLOAT_BITS

__all__ = ["LayerSummary", "Summary"]


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One row.

    Attributes:
        name: the module's full name.
        kind: its class.
        weight_bits: bits of one weight, 32 for float.
        input_bits: bits of one input value.
        parameters: number of parameters, shared ones counted in their first row.
        one_bit: how many of them are stored with one bit.
        low_bit: how many with more than one but less than 32 bits.
        deployed_bytes: size when packed: weights with whole bits (1.58 takes 2), scales, biases,
            statistics and everything else as it is.
        macs: multiply-accumulates with weights per sample; ``None`` without an input.
        score_macs: those of two activations per sample: Q K^T and A V of attention.
        saved_bytes: kept for the backward pass for the whole batch.
        float_saved_bytes: the same with all quantizers off.
    """

    name: str
    kind: str
    weight_bits: float
    input_bits: float
    parameters: int
    one_bit: int
    low_bit: int
    deployed_bytes: int
    macs: int | None = None
    score_macs: int | None = None
    saved_bytes: int | None = None
    float_saved_bytes: int | None = None

    @property
    def arithmetic(self) -> str:
        """The kind of its products: ``"W1A1"``, ``"W1A32"``, ``"float"``."""
        if self.weight_bits == self.input_bits == FLOAT_BITS:
            return "float"
        return f"W{round(self.weight_bits, 2):g}A{round(self.input_bits, 2):g}"


@dataclasses.dataclass(frozen=True)
class Summary:
    """All rows and their totals; ``print(summary)`` shows a table.

    Attributes:
        layers: one row per layer.
        training_bytes: size of parameters and buffers as they are now, with latent weights.
        samples: size of the batch for which bytes are counted; ``None`` without an input.
    """

    layers: tuple[LayerSummary, ...]
    training_bytes: int
    samples: int | None = None

    @property
    def deployed_bytes(self) -> int:
        """Size of the packed model."""
        return sum(row.deployed_bytes for row in self.layers)

    @property
    def float_bytes(self) -> int:
        """Size of all parameters in float32."""
        return 4 * sum(row.parameters for row in self.layers)

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters by storage: ``1-bit``, ``low-bit``, ``float``."""
        one = sum(row.one_bit for row in self.layers)
        low = sum(row.low_bit for row in self.layers)
        total = sum(row.parameters for row in self.layers)
        return {"1-bit": one, "low-bit": low, "float": total - one - low}

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates per sample by kind of arithmetic, empty without an input."""
        total: dict[str, int] = {}
        for row in self.layers:
            if row.macs:
                total[row.arithmetic] = total.get(row.arithmetic, 0) + row.macs
            if row.score_macs:
                total["attention scores"] = total.get("attention scores", 0) + row.score_macs
        return total

    @property
    def saved_bytes(self) -> int | None:
        """Bytes kept for the backward pass, ``None`` without a sample."""
        return _total(row.saved_bytes for row in self.layers)

    @property
    def float_saved_bytes(self) -> int | None:
        """The same with all quantizers off."""
        return _total(row.float_saved_bytes for row in self.layers)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows as text."""
        head = ["name", "type", "products", "params", "1-bit", "low-bit", "deployed"]
        rows = [
            [r.name or "(model)", r.kind, r.arithmetic, human(r.parameters), human(r.one_bit),
             human(r.low_bit), size(r.deployed_bytes)]
            for r in self.layers
        ]  # fmt: skip
        if self.saved_bytes is not None:
            head += ["MACs per sample", "saved for backward", "in float"]
            for row, r in zip(rows, self.layers, strict=True):
                macs = (r.macs or 0) + (r.score_macs or 0)
                row += [human(macs), size(r.saved_bytes or 0), size(r.float_saved_bytes or 0)]
        return head, rows

    def footer(self) -> list[str]:
        """Return the totals as lines of text."""
        counts = ", ".join(f"{human(n)} {kind}" for kind, n in self.parameters.items())
        lines = [
            f"parameters: {counts}",
            f"size: {size(self.training_bytes)} in training (latent weights), "
            f"{size(self.deployed_bytes)} deployed",
        ]
        if self.saved_bytes is not None and self.float_saved_bytes is not None:
            kinds = ", ".join(f"{human(n)} {kind}" for kind, n in self.macs.items())
            lines.append(f"multiply-accumulates per sample: {kinds or 0}")
            lines.append(
                f"saved for backward, batch of {self.samples}: {size(self.saved_bytes)}, "
                f"in float {size(self.float_saved_bytes)}"
            )
        return lines

    def __repr__(self) -> str:
        """Return a line; ``print(summary)`` shows the table."""
        return f"Summary({len(self.layers)} layers, {size(self.deployed_bytes)} deployed)"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        return html_table(*self.table(), self.footer())

    def __str__(self) -> str:
        head, rows = self.table()
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = []
        for row in [head, *rows]:
            cells = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in
                     enumerate(zip(row, widths, strict=True))]  # fmt: skip
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:], rule, *self.footer()])


def _total(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def human(number: int) -> str:
    """Format a count: ``950``, ``12.3 K``, ``1.2 M``."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= scale:
            return f"{number / scale:.1f} {unit}"
    return str(number)


def size(number: int) -> str:
    """Format bytes: ``950 B``, ``12.3 KiB``, ``1.2 MiB``."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= scale:
            return f"{number / scale:.1f} {unit}"
    return f"{number} B"
