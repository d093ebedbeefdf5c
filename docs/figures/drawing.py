"""Shared by the scripts of this folder: one look, small files, colours for every eye."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from ste_lightning.figures.colours import BLUE, GREEN, GREY, ORANGE, PURPLE

__all__ = ["BLUE", "GREEN", "GREY", "IMAGES", "ORANGE", "PURPLE", "WRONG", "save"]

WRONG = "#fde3df"
IMAGES = Path(__file__).parents[1] / "images"

matplotlib.rcParams.update(
    {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
)


def save(figure: Figure, name: str, colours: int = 64) -> None:
    """Write ``docs/images/NAME.png`` with few colours, below 100 KB."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    image = Image.open(file).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    image.save(IMAGES / f"{name}.png", optimize=True)
    print(IMAGES / f"{name}.png", (IMAGES / f"{name}.png").stat().st_size // 1000, "KB")
