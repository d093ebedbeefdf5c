"""Combine the runs of a sweep again: ``python -m ste_lightning.combine FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ste_lightning.running.command import answered
from ste_lightning.running.sweep import recombine

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 if the folder is refused or runs have no results.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.combine",
        description="Combine the finished runs of a sweep into its tables and figures.",
    )
    parser.add_argument("folder", type=Path, help="the sweep's folder, with multirun.yaml in it")
    folder = parser.parse_args(arguments).folder
    return answered(lambda: int(not recombine(folder)))


if __name__ == "__main__":
    sys.exit(main())
