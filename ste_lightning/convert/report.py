"""What a conversion did, to read and to keep."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["LayerReport", "Report"]


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

    def __str__(self) -> str:
        head = ("layer", "type", "weight", "input", "why")
        rows = [head, *((r.name, r.kind, r.weight, r.input, r.reason) for r in self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True))
            + f"  {row[4]}"
            for row in rows
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])
