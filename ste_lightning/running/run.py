"""One run: try it with one batch, then train or test, and keep what comes out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.figures.finished import Finished
from ste_lightning.io.progress import on_terminal, stages
from ste_lightning.io.whole_file import write_text
from ste_lightning.running import experiment, files
from ste_lightning.running.checkpoints import loadable, rows_before
from ste_lightning.running.execute import execute, summarize
from ste_lightning.running.failures import RunError, described, keep_traceback, warning
from ste_lightning.running.imports import import_own, own_folders_on_path
from ste_lightning.running.keep_results import refuse_to_overwrite
from ste_lightning.running.metrics_file import history
from ste_lightning.running.parts import assemble
from ste_lightning.running.quiet import quiet
from ste_lightning.running.record import draw, origins, record, tell
from ste_lightning.running.rehearsal import rehearse
from ste_lightning.running.resuming import (
    KEY,
    check_unchanged,
    finished_before,
    keep_command,
    newest,
)
from ste_lightning.running.settings import refuse_kept_rule, resolved
from ste_lightning.running.stopping import (
    INTERRUPTED,
    TERMINATED,
    Progress,
    how_to_go_on,
    terminable,
)
from ste_lightning.running.stopwatch import Stopwatch

__all__ = ["run"]


_NOTHING_KEPT = (
    "its run has finished and checkpoints/last.ckpt is not there: ckpt_path=FILE says from which "
    "checkpoint to go on, hydra.run.dir=FOLDER in place of resume begins anew"
)


def run(cfg: DictConfig) -> float | None:
    """Do what the configuration says and leave its results in the run's folder.

    Returns:
        The value of ``monitor``, for a sweeper that optimizes it; None without a monitor.

    Raises:
        ConfigurationError: for settings that cannot work, before the first step; the run's folder
            is then removed, unless it held something before.
        RunError: if code fails, or once training has begun; the folder stays, with the traceback.
        SystemExit: after Ctrl-C (130) and SIGTERM (143), when the last checkpoint has been written.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    fresh = files.is_fresh(folder)
    progress = Progress()
    try:
        with quiet(), terminable():
            return _run(cfg, folder, progress)
    except (ConfigurationError, MisconfigurationException, OmegaConfBaseException) as error:
        if progress.begun:
            raise _failed(error, str(error), folder, progress) from error
        if fresh:
            files.discard(folder)
        if isinstance(error, MisconfigurationException):
            raise ConfigurationError(str(error)) from error
        raise
    except Exception as error:
        said = str(error) if isinstance(error, RunError) else described(error)
        raise _failed(error, said, folder, progress) from error
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code not in (INTERRUPTED, TERMINATED):
            raise _failed(stop, described(stop), folder, progress) from stop  # code of a recipe
        if fresh and not progress.begun:
            files.discard(folder)
        status = INTERRUPTED if isinstance(stop, KeyboardInterrupt) else stop.code
        word = "Interrupted" if status == INTERRUPTED else "Terminated"
        said = f"{word} after {progress.steps} steps."
        print(f"{said} {how_to_go_on(folder)}" if progress.begun else said, file=sys.stderr)
        raise SystemExit(status) from None


def _failed(error: BaseException, said: str, folder: Path, progress: Progress) -> RunError:
    """Return the error that says what stopped the run, and how it goes on."""
    log = keep_traceback(error, folder / files.LOG)
    if not progress.begun:
        return RunError(f"{said}.{log}")
    return RunError(
        f"stopped after {progress.steps} steps: {said.rstrip('.')}.{log} {how_to_go_on(folder)}"
    )


def _run(cfg: DictConfig, folder: Path, progress: Progress) -> float | None:
    started = time.perf_counter()
    settings = resolved(cfg, folder)
    own_folders_on_path()
    import_own(settings["imports"])
    testing = settings["mode"] == "test"
    overrides = HydraConfig.get().overrides.task
    refuse_kept_rule(settings, overrides)
    if settings["resume"] is not None and not testing:
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if sweep and (folder / files.RESULTS).is_file():
            return finished_before(settings["monitor"], overrides, folder)
        check_unchanged(settings, folder, () if sweep else overrides)
        settings["ckpt_path"] = newest(folder) or settings["ckpt_path"]
        kept = settings["ckpt_path"] is not None or not (folder / files.RESULTS).is_file()
        require(kept, KEY, str(folder), _NOTHING_KEPT)
    ckpt_path = loadable(settings["ckpt_path"], needed=testing)
    if settings["resume"] is None:
        refuse_to_overwrite(folder, ckpt_path, testing)
    if settings["rehearse"] and getattr(rank_zero_only, "rank", 0) == 0:
        with stages(4) as begin:
            rehearse(cfg, folder, begin)
    earlier = [] if testing else rows_before(ckpt_path)
    if settings["resume"] is not None and ckpt_path is not None and not earlier:
        warning(f"{folder / files.METRICS} has no rows of the part before: curves begin here.")
    watch = Stopwatch()
    bars = () if on_terminal() else (ProgressBar,)  # a file or a pipe gets none
    parts = assemble(settings, folder, [progress, watch], bars, history=earlier)
    trainer = parts.trainer
    if trainer.is_global_zero:
        keep_command(cfg, folder)
        write_text(folder / files.CONFIG, OmegaConf.to_yaml(OmegaConf.create(settings)))
        origin = origins()
        experiment.begin(trainer.loggers, settings, origin)
    metrics = execute(parts, ckpt_path, testing, folder)
    if trainer.is_global_zero:
        seconds = time.perf_counter() - started
        logged = history(folder / files.METRICS)
        finished = Finished(parts.model, parts.data, logged, metrics)
        metrics, failed = summarize(parts, finished)
        outcome = Finished(parts.model, parts.data, logged, metrics)
        figures = {}
        try:
            record(settings, origin, metrics, seconds, watch.seconds, folder)
            for where, error in failed:
                warning(f"{where} failed, its numbers are missing: {described(error)}")
            if not testing:
                with stages(1 + settings["write_report"]) as begin:
                    begin("drawing the figures")
                    figures = draw(parts, outcome, folder)
                    if settings["write_report"]:
                        begin("writing the report")
                        from ste_lightning.running.pages import report_run

                        speed = trainer.global_step / watch.seconds if watch.seconds else None
                        report_run(parts.model, parts.data, parts.callbacks.values(), folder, speed)
        finally:  # the numbers are told whatever becomes of the files
            tell(settings, origin["overrides"], outcome, seconds, folder)
        steps = trainer.global_step
        experiment.end(trainer.loggers, settings, origin, metrics, figures, folder, steps)
    return metrics.get(settings["monitor"] or "")
