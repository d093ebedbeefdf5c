"""What a deployed file tells of its inputs and outputs, from the run that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.predict import Preprocessing
from ste_lightning.deploy.predict.transforms import preprocessing_of
from ste_lightning.errors import ConfigurationError, require

__all__ = ["model_info"]


def model_info(
    data: Any,
    samples: Tensor,
    classes: list[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the shape of a sample, the preprocessing and the class names.

    Args:
        data: the run's data module, set up. Read are its ``preprocessing`` (a mapping), else the
            ``transform`` of its test data set if that is torchvision's, and ``mean`` and ``std``;
            and ``class_names``, or ``classes``, its own or the data set's: names or a number.
        samples: a batch of inputs.
        classes: names that replace those.
        preprocessing: keys that replace those.

    Raises:
        ConfigurationError: for preprocessing that cannot be, and class names of which the data
            have another number.
    """
    dataset = getattr(data.test_dataloader(), "dataset", None)
    found = {**_preprocessing(data, dataset), **(preprocessing or {})}
    info: dict[str, Any] = {"input_shape": list(samples.shape[1:])}
    if not samples.is_floating_point():
        info["input_dtype"] = str(samples.dtype).removeprefix("torch.")
    if found:
        info["preprocessing"] = found
    names = _names(getattr(data, "class_names", None))
    names = names or _names(getattr(data, "classes", getattr(dataset, "classes", None)))
    if classes is not None:
        fits = names is None or len(classes) == len(names)
        require(fits, "classes", list(classes), f"the data have the classes {names}")
        info["classes"] = list(classes)
    elif names is not None:
        info["classes"] = names
    Preprocessing.of(info)  # refuses what cannot be
    return info


def _names(classes: Any) -> list[str] | None:
    """Return names of classes, from names or from how many there are."""
    if isinstance(classes, int):
        return [str(index) for index in range(classes)]
    return list(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None


def _preprocessing(data: Any, dataset: Any) -> dict[str, Any]:
    stated = getattr(data, "preprocessing", None)
    if isinstance(stated, Mapping):
        return dict(stated)
    transform = getattr(dataset, "transform", None)
    if transform is not None:
        try:
            return {k: v for k, v in preprocessing_of(transform).items() if v is not None}
        except ConfigurationError:  # a transform of the user's own
            pass
    if hasattr(data, "mean") and hasattr(data, "std"):
        mean, std = (torch.as_tensor(v).flatten().tolist() for v in (data.mean, data.std))
        return {"mean": mean, "std": std}
    return {}
