"""Make report.html again: ``python -m ste_lightning.report FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ste_lightning.io.paths import RECIPES
from ste_lightning.running.command import answered

__all__ = ["main", "page_of"]


def page_of(folder: Path) -> Path:
    """Make the page of the run, the sweep or the study in ``folder``; return its path.

    Raises:
        ConfigurationError: where nothing has finished there, or vl-convert is not installed.
    """
    from ste_lightning.running import files, pages, recipes, sweep

    recipes.search()
    if files.of_sweep(folder) is not None:
        return sweep.write_page(folder)
    if (folder / "cells").is_dir():
        from ste_lightning.running import study

        recipes.search(shipped=RECIPES / "study")
        return study.write_page(folder)
    return pages.write_run_page(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 where no page could be made.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.report",
        description="Make report.html from the files of a run, a sweep or a study.",
    )
    parser.add_argument("folder", type=Path, help="the run's, the sweep's or the study's folder")
    folder = parser.parse_args(arguments).folder
    return answered(lambda: print(page_of(folder)))


if __name__ == "__main__":
    sys.exit(main())
