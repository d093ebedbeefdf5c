"""Begin a project of one's own: ``python -m ste_lightning.new DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ste_lightning.errors import require
from ste_lightning.io.whole_file import write_text
from ste_lightning.running.command import answered

__all__ = ["main"]

FILES = ("my_recipe.yaml", "my_data.py", "my_network.py", "test_mine.py", "README.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 if something is in the way.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.new",
        description="Write a recipe, a data module, a network and a test, which run as they are.",
    )
    parser.add_argument("folder", type=Path, help="a new folder, or one without these files")
    folder = parser.parse_args(arguments).folder
    return answered(lambda: _write(folder))


def _write(folder: Path) -> None:
    there = [name for name in FILES if (folder / name).exists()]
    require(not there, "folder", str(folder), f"it holds {', '.join(there)}: name another one")
    for name in FILES:
        content = (files("ste_lightning.starter") / name).read_text(encoding="utf-8")
        write_text(folder / name, content)
    print(f"In {folder}: {', '.join(FILES)}.")
    print(f"Next: cd {folder}; python -m ste_lightning.train --config-dir . +recipe=my_recipe")


if __name__ == "__main__":
    sys.exit(main())
