"""Keep Lightning's greetings and warnings without consequence off the screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

HARMLESS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of a deprecated torch name
    r".*does not have many workers.*",  # our data are in memory
    r".*The number of training batches .* is smaller than the logging interval.*",
    r"The dirpath has changed from.*",  # resumed into another folder, as intended
    r".*Experiment logs directory .* exists and is not empty.*",  # resumed into its own folder
    r".*Checkpoint directory .* exists and is not empty.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what a user can do nothing about; the log file still has Lightning's messages."""
    lightning = logging.getLogger("lightning")
    for handler in list(lightning.handlers):  # its own console handler; Hydra's take over
        lightning.removeHandler(handler)
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        yield
