"""The top level of a study's configuration; importing it needs no torch, as ``--help`` does not."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import MISSING

__all__ = ["Schema"]


@dataclasses.dataclass
class Schema:
    """Top level of a study's configuration; anything else is refused as a typo.

    Attributes:
        name: name of the recipe; also of its folder under ``outputs/study``.
        imports: modules to import first: they register rules of your own.
        folder: where cells, results, table and figure are.
        base: settings of all cells.
        grid: setting -> values.
        parts: further grids by name, each completed by ``grid``.
        table: function of the results that returns the table's rows, as ``_target_``.
        short_table: likewise, of the table on the screen where the whole one is long.
        figure: function of the results that returns the figure; None: no figure.
        keep: folder that gets all results in one file, ``NAME.parquet``, from which
            ``python -m ste_lightning.results claims`` makes the page of claims; None: none does.
        workers: cells in work at once; None: as :func:`ste_lightning.theory.studies.run` says.
        launcher: ``local`` or ``ray``.
        write_report: whether to make report.html; the environment's ``STE_REPORT`` is the default.
        small: run a version for a first look, see
            :func:`ste_lightning.theory.studies.cells.shrink`; give it a folder of its own.
        small_parts: the parts that this version has; None: all.
        small_n: the largest n of that version; a recipe whose title needs more says so.
    """

    name: str = MISSING
    imports: list[str] = dataclasses.field(default_factory=list)
    folder: str | None = None
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, Any] = dataclasses.field(default_factory=dict)
    parts: dict[str, Any] = dataclasses.field(default_factory=dict)
    table: Any = None  # mappings: omegaconf merges none into optional ones
    short_table: Any = None
    figure: Any = None
    keep: str | None = None
    workers: int | None = None
    launcher: str = "local"
    small: bool = False
    small_n: int = 32
    small_parts: list[str] | None = None
    write_report: bool = True
