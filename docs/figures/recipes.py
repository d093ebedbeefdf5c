"""The figure of a recipe for its page: ``python docs/figures/recipes.py NAME study/NAME ...``.

A study that is stored in ``results/theory`` is drawn from there, as its tables are; one whose figure
needs more than is stored runs. Other studies run in their small version, trainings as they are or, where that
takes hours, in part, below ``outputs/pictures``; what has been run there is not run again.
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

sys.path.append(str(Path(__file__).parents[1] / "site"))

from recipe_pages import PARTS, RECIPES, SHORT, STORED, TRACES, image

WORK = Path("outputs/pictures")


def _run(command: object, name: str, folder: Path, *more: str) -> None:
    assert command in (train, study)
    given = [f"+recipe={name}", f"hydra.run.dir={folder}", "write_report=false", *more]
    assert command.main(given) == 0, f"{name} failed"  # type: ignore[attr-defined]


def figure_of(key: str) -> Figure | Path:
    """Return a recipe's figure, drawn or as a file; runs what has not been run."""
    name, folder = key.removeprefix("study/"), WORK / key
    if key == name:
        if not list(folder.rglob("*.png")):
            sweep = f"hydra.sweep.dir={folder / 'sweep'}"
            _run(train, name, folder, sweep, "rehearse=false", *SHORT.get(name, ()))
        return min(folder.rglob("*.png"), key=lambda path: (len(path.parts), path.name))
    stored = STORED / f"{name}.parquet"
    if stored.is_file() and name not in TRACES:
        file = OmegaConf.load(RECIPES / f"{key}.yaml")
        figure = build_function("figure", file.figure)(read_kept(stored).results)
        assert isinstance(figure, Figure)
        return figure
    if not (folder / "figure.png").is_file():
        most = [] if name in TRACES else PARTS.get(name, ["small=true"])
        _run(study, name, folder, *most)
    return folder / "figure.png"


def main(keys: list[str]) -> None:
    """Write the pictures of recipes below ``docs/images``."""
    for key in keys:
        made = figure_of(key)
        picture = drawing.drawn(made) if isinstance(made, Figure) else Image.open(made)
        drawing.write(picture, image(key))


if __name__ == "__main__":
    main(sys.argv[1:])
