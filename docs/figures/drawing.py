"""Shared by the scripts of this folder: one look, small files, colours for every eye."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from ste_lightning.figures.colours import BLUE, GREEN, GREY, ORANGE, PURPLE

__all__ = ["BLUE", "GREEN", "GREY", "IMAGES", "ORANGE", "PURPLE", "WRONG", "drawn", "save", "write"]

WRONG = "#fde3df"
IMAGES = Path(__file__).parents[1] / "images"

matplotlib.rcParams.update(
    {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
)


def drawn(figure: Figure) -> Image.Image:
    """Return a figure as an image."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return Image.open(file)


def write(image: Image.Image, name: str, colours: int = 256) -> None:
    """Write ``docs/images/NAME.png``: few colours, at most 1400 pixels wide and 100 KB."""
    image = image.convert("RGB")
    if image.width > 1400:
        image = image.resize(
            (1400, round(image.height * 1400 / image.width)), Image.Resampling.LANCZOS
        )
    path = IMAGES / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    # an octree keeps colours apart that few pixels have, as lines do
    few = image.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    if path.stat().st_size > 100_000:
        return write(image, name, colours // 2)
    print(path, path.stat().st_size // 1000, "KB")


def save(figure: Figure, name: str) -> None:
    """Write ``docs/images/NAME.png`` as :func:`write` does."""
    write(drawn(figure), name)
