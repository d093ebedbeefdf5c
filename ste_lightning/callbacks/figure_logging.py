"""Hand a figure to every logger that can take one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["log_figure"]


def log_figure(logger: Logger, name: str, figure: Figure, step: int) -> bool:
    """Log a matplotlib figure, if the logger has a place for it.

    TensorBoard gets an image, a CSV folder the file ``figures/NAME-STEP.png``, wandb an image
    and mlflow an artifact; the last two are known by their methods, not by their classes.

    Args:
        logger: one of the trainer's loggers.
        name: the figure's name; slashes are allowed.
        figure: the figure; it stays as it is.
        step: the optimizer step that it shows.

    Returns:
        Whether the logger took it.
    """
    experiment: Any = getattr(logger, "experiment", None)
    file = f"{name.replace('/', '-')}-{step}.png"
    if isinstance(logger, CSVLogger):
        folder = Path(logger.log_dir) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{file}.part"
        partial.write_bytes(_png(figure))
        partial.replace(folder / file)
    elif callable(getattr(experiment, "add_figure", None)):
        experiment.add_figure(name, figure, step, close=False)
    elif callable(getattr(logger, "log_image", None)):
        logger.log_image(key=name, images=[_pixels(figure)], step=step)  # type: ignore[attr-defined]
    elif callable(getattr(experiment, "log_figure", None)):
        run = getattr(logger, "run_id", None)
        experiment.log_figure(*([] if run is None else [run]), figure, f"figures/{file}")
    else:
        return False
    return True


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _pixels(figure: Figure) -> np.ndarray[Any, Any]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
