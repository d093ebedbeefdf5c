"""What a conversion did, to read and to keep."""

from __future__ import annotations

import dataclasses
from typing import Any

from ste_lightning.io.html import html_table

__all__ = ["LayerReport", "Report"]


_HEAD = ("layer", "type", "weight", "input", "why")


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: its full name in the model.
        kind: its class before conversion.
        weight: its weight quantizer with bits, sign and granularity; ``"float"`` for none.
        input: its input quantizer.
        reason: why.
        rule: the rule that was applied, as plain Python under the layer's exact name; ``None``
            for a layer left as it was.
    """

    name: str
    kind: str
    weight: str
    input: str
    reason: str
    rule: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What became what and why; ``print(report)`` shows a table.

    Attributes:
        layers: every quantizable layer in the order in which it runs, and then every other layer
            with weights, which stays float.
        notes: replaced activations and anything else that was changed.
    """

    layers: tuple[LayerReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def quantized(self) -> list[str]:
        """Names of the layers that have at least one quantizer."""
        return [r.name for r in self.layers if (r.weight, r.input) != ("float", "float")]

    def __repr__(self) -> str:
        """Return a line; ``print(report)`` shows the table."""
        return f"Report({len(self.quantized)} of {len(self.layers)} layers quantized)"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        return html_table(_HEAD, self._rows(), self.notes)

    def _rows(self) -> list[tuple[str, ...]]:
        return [(r.name, r.kind, r.weight, r.input, r.reason) for r in self.layers]

    def __str__(self) -> str:
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True))
            + f"  {row[4]}"
            for row in rows
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])
