"""The keys a run's configuration may have at top level; anything else is refused as a typo."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

__all__ = ["Mode", "Schema"]


class Mode(Enum):
    """What a run does."""

    train = "train"
    test = "test"


@dataclass
class Schema:
    """Top level of every run's configuration.

    Attributes:
        name: name of the recipe; also of its folder under ``outputs``.
        mode: ``train`` fits and then tests; ``test`` only tests the checkpoint ``ckpt_path``.
        ckpt_path: checkpoint to resume from (``train``) or to test (``test``).
        init_from: checkpoint whose weights training starts from: of the float twin, or of a first
            step with fewer quantizers; see ``running.starting``.
        resume: folder of a run or a sweep that goes on there, see ``running.resuming``; all other
            settings are those it began with, unless they are given anew.
        seed: seed of every random number of the run.
        imports: modules to import first: they register rules and quantizers of your own.
        teacher: checkpoint of the float twin that teaches, for ``callbacks=distilled``.
        rehearse: play the run through with one batch before it begins; what is wrong in the
            configuration is then found at once. Data and model are built twice.
        threads: CPU threads of torch; small networks are fastest on one. None: torch's default.
        folder: the run's folder, set by Hydra.
        monitor: metric that chooses the best checkpoint; None keeps only the last one.
        monitor_mode: ``min`` or ``max``.
        write_report: whether to make report.html; the environment's ``STE_REPORT`` is the default.
        report: metrics of the final table, in this order; empty reports all of them.
        expected: metric -> [lowest, highest] value that the recipe promises.
        model: a LightningModule as ``_target_`` and arguments.
        data: a LightningDataModule as ``_target_`` and arguments.
        quantizer: specifications ``weight`` and ``input`` that the model refers to.
        optimizer: the optimizer and its schedule, which the model refers to.
        trainer: ``lightning.Trainer`` and its arguments.
        callbacks: name -> callback.
        logger: name -> logger, besides the CSV file that every run writes.
        summary: name -> function of the finished run that returns further metrics.
        figures: file name -> function that draws a run's figure.
        sweep: how a multirun is combined: ``baseline`` (the setting that others are compared with,
            as a mapping), ``interval`` (``t`` or ``bootstrap``), ``figures`` as above, of its rows.
    """

    name: str = MISSING
    mode: Mode = Mode.train
    ckpt_path: str | None = None
    init_from: str | None = None
    resume: str | None = None
    seed: int = 0
    imports: list[str] = field(default_factory=list)
    teacher: str | None = None
    rehearse: bool = True
    threads: int | None = 1
    folder: str | None = None
    monitor: str | None = None
    monitor_mode: str = "max"
    write_report: bool = True
    report: list[str] = field(default_factory=list)
    expected: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    quantizer: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
