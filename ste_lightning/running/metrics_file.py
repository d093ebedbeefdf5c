"""The file metrics.csv of a run, which survives interruptions and goes on after them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import write_text

__all__ = ["MetricsFile", "Row", "history", "rows_until"]

Row = Mapping[str, Any]


def history(path: Path) -> list[dict[str, float]]:
    """Read a metrics.csv: one dict per logged row, without its empty cells.

    Raises:
        ConfigurationError: for a file with anything but numbers.
    """
    with _understood(path):
        return [
            {key: float(cell) for key, cell in row.items() if cell not in ("", None)}
            for row in _read(path)
        ]


def rows_until(path: Path, steps: int) -> list[Row]:
    """Return the rows of a metrics.csv that the first ``steps`` optimizer steps have written."""
    with _understood(path):
        return [row for row in _read(path) if row.get("step") and int(row["step"]) < steps]


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}. It must hold numbers alone: repair or remove it."
        ) from error


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    # A process that was killed may have left half a line.
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return list(csv.DictReader(io.StringIO(whole)))


class MetricsFile(CSVLogger):
    """Writes ``FOLDER/metrics/metrics.csv``: a row per logging, a column per metric.

    Rows are on disk as soon as they are logged, and a file that gains a column is replaced in one
    step, so a process that is killed loses nothing.

    Args:
        folder: the run's folder.
        keep: rows of an earlier part of the same training, see :func:`rows_until`; they come
            first. The file is otherwise begun anew.
    """

    def __init__(self, folder: str | Path, keep: Sequence[Row] = ()) -> None:
        super().__init__(folder, name="metrics", version="", flush_logs_every_n_steps=1)
        self._keep = keep
        self._experiment: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return the writer; the file begins with its first use."""
        if self._experiment is None:
            self._experiment = _Writer(Path(self.log_dir) / "metrics.csv", self._keep)
        return self._experiment


class _Writer:
    """What a CSVLogger asks of its writer."""

    def __init__(self, path: Path, keep: Sequence[Row]) -> None:
        self.path = path
        self.columns = _columns(keep)
        self._waiting: list[Row] = []
        write_text(path, self._text(keep, header=True) if keep else "")

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Leave them out: config.yaml beside this file has all settings."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take a row."""
        plain = {k: v.item() if hasattr(v, "item") else v for k, v in metrics.items()}
        self._waiting.append({**plain, "step": step})

    def save(self) -> None:
        """Write the rows that wait."""
        columns = sorted({*self.columns, *_columns(self._waiting)})
        if columns != self.columns:
            rows = [*_read(self.path), *self._waiting]
            self.columns = columns
            write_text(self.path, self._text(rows, header=True))
        elif self._waiting:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text(self._waiting, header=False))
        self._waiting = []

    def _text(self, rows: Iterable[Row], header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _columns(rows: Iterable[Row]) -> list[str]:
    return sorted({key for row in rows for key in row})
