"""The figure of a recipe for its page: ``python docs/figures/recipes.py NAME ...``.

A study that is stored in ``results/theory`` is drawn from there, as its tables are. Other studies
are run in their small version, trainings as they are, below ``outputs/pictures``; what has been
run there is not run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import drawing
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from ste_lightning import study, train
from ste_lightning.running.build import build_function
from ste_lightning.theory.studies.kept import read_kept

ROOT = Path(__file__).parents[2]
RECIPES, STORED = ROOT / "recipes", ROOT / "results" / "theory"
WORK = Path("outputs/pictures")
_TRACES = {"recurrence", "optimizers"}  # figures of what stored results leave out


def _run(command: object, name: str, folder: Path, *more: str) -> None:
    assert command in (train, study)
    given = [f"+recipe={name}", f"hydra.run.dir={folder}", "write_report=false", *more]
    assert command.main(given) == 0, f"{name} failed"  # type: ignore[attr-defined]


def figure_of(name: str) -> Figure | Path:
    """Return a recipe's figure, drawn or as a file; runs what has not been run."""
    file = RECIPES / "study" / f"{name}.yaml"
    if not file.is_file():
        folder = WORK / name
        sweep = folder / "sweep"
        if not list(folder.rglob("*.png")):
            _run(train, name, folder, f"hydra.sweep.dir={sweep}", "rehearse=false")
        return min(folder.rglob("*.png"), key=lambda path: (len(path.parts), path.name))
    stored = STORED / f"{name}.parquet"
    if stored.is_file() and name not in _TRACES:
        figure = build_function("figure", OmegaConf.load(file).figure)(read_kept(stored).results)
        assert isinstance(figure, Figure)
        return figure
    folder = WORK / "study" / name
    _run(study, name, folder, "small=true")
    return folder / "figure.png"


def main(names: list[str]) -> None:
    """Write ``docs/images/recipes/NAME.png``."""
    for name in names:
        made = figure_of(name)
        image = drawing.drawn(made) if isinstance(made, Figure) else Image.open(made)
        drawing.write(image, f"recipes/{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
