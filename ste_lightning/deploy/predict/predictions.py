"""Predictions of a packed network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.trees import tensors_in
from ste_lightning.deploy.predict.inputs import called, info_of, open_inputs
from ste_lightning.deploy.predict.samples import Limits, Samples
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["ON_ERROR", "Prediction", "predict", "predictions"]

ON_ERROR = ("stop", "skip")


class Prediction(NamedTuple):
    """What a network says of one sample.

    Attributes:
        sample: the file's name, or the sample's number in an array.
        prediction: the name of the likeliest class; None where the network has no class names.
        confidence: that class's probability, by softmax unless the outputs are probabilities.
        outputs: all outputs of the network, flat.
    """

    sample: str
    prediction: str | None
    confidence: float | None
    outputs: Tensor


def predict(
    network: nn.Module,
    images: Any,
    *,
    batch_size: int = 64,
    normalize: bool = True,
    pixels: Limits | None = None,
    on_error: str = "stop",
) -> list[Prediction]:
    """Predict with the preprocessing and the class names that the network carries.

    Args:
        network: a packed network; its ``info`` holds ``preprocessing``, ``input_shape`` and
            ``classes``.
        images: a path (image, folder, npy, npz, csv), an array or tensor, a Pillow image, or a
            list of pictures, of their paths, or of arrays of one sample each; for a network of
            several inputs a dict of these by the names of its arguments, or an npz file of
            arrays with these names. Bytes are pixels of 0..255, other numbers are in the range
            that the network was trained on; channels may come first or last.
        batch_size: samples at a time.
        normalize: False takes arrays as the network takes them.
        pixels: (low, high), what black and white are in an array of pixels.
        on_error: ``"stop"`` raises at the first sample that cannot be read; ``"skip"`` warns and
            leaves it out.

    Returns:
        One :class:`Prediction` per sample.

    Raises:
        ConfigurationError: for what cannot be read or does not fit, with the reason.
    """
    require(batch_size > 0, "batch_size", batch_size, "use a positive integer")
    if on_error not in ON_ERROR:
        raise unknown("on_error", on_error, ON_ERROR)
    samples = open_inputs(images, network, info_of(network), normalize=normalize, limits=pixels)
    found: list[Prediction] = []
    for rows, failed in predictions(network, samples, batch_size):
        for name, reason in failed:
            if on_error == "stop":
                raise ConfigurationError(f"{name}: {reason}.")
            warnings.warn(f"skipped {name}: {reason}.", stacklevel=2)
        found += rows
    return found


def predictions(
    network: nn.Module, samples: Samples, batch_size: int
) -> Iterator[tuple[list[Prediction], list[tuple[str, str]]]]:
    """Yield, per batch, its predictions and the samples that could not be read.

    Raises:
        ConfigurationError: for samples that do not fit the network.
    """
    classes = info_of(network).get("classes")
    for names, x, failed in samples.batches(batch_size):
        rows: list[Prediction] = []
        if names:
            outputs = _outputs(network, x)
            require(len(outputs) == len(names), "model", tuple(outputs.shape),
                    f"it makes no row of outputs for each of {len(names)} samples")  # fmt: skip
            rows = _predictions(names, outputs, classes)
        yield rows, failed


def _outputs(network: nn.Module, x: Any) -> Tensor:
    try:
        with torch.no_grad():
            y = called(network, x)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, ConfigurationError):
            raise
        shapes = [tuple(tensor.shape) for tensor in tensors_in(x)]
        raise ConfigurationError(
            f"input of shape {', '.join(map(str, shapes))} does not fit the network: {error}"
        ) from error
    if isinstance(y, Mapping):
        y = y.get("logits", next(iter(y.values()), None))
    elif isinstance(y, (tuple, list)) and y:
        y = y[0]
    require(isinstance(y, Tensor), "model", type(y).__name__, "its first output must be a tensor")
    found: Tensor = y.flatten(1) if y.dim() > 1 else y[:, None]
    return found


def _predictions(names: list[str], outputs: Tensor, classes: Any) -> list[Prediction]:
    if not isinstance(classes, (list, tuple)) or len(classes) != outputs.shape[1]:
        return [Prediction(name, None, None, row) for name, row in zip(names, outputs, strict=True)]
    shares = outputs.float()
    if not _are_probabilities(shares):
        shares = shares.softmax(1)
    confidence, best = shares.max(1)
    labels = [str(classes[index]) for index in best.tolist()]
    rows = zip(names, labels, confidence.tolist(), outputs, strict=True)
    return [Prediction(*row) for row in rows]


def _are_probabilities(outputs: Tensor) -> bool:
    """Return whether each row is one of probabilities: a network that ends with softmax."""
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())
