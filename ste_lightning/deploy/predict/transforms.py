"""Preprocessing from torchvision's transforms, read by their attributes; nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ste_lightning.errors import ConfigurationError

__all__ = ["preprocessing_of"]

# What changes nothing of a sample at prediction beside its type.
_IGNORED = ("ToTensor", "PILToTensor", "ToImage", "ToPILImage", "ConvertImageDtype", "ToDtype",
            "Identity", "ToPureTensor")  # fmt: skip


def preprocessing_of(transform: Any) -> dict[str, Any]:
    """Return what a pipeline of torchvision's transforms does, as ``info["preprocessing"]``.

    Understood are Resize, CenterCrop, Grayscale, ToTensor (or its newer parts), Normalize, in this
    order, Compose of them, and what ``weights.transforms()`` of a torchvision model returns.

    Args:
        transform: the transform of a *test* data set.

    Raises:
        ConfigurationError: for any other transform, by name, and another order.
    """
    if type(transform).__name__ == "ImageClassification":
        return {
            "channels": "rgb",
            "range": [0, 1],
            "mean": list(map(float, transform.mean)),
            "std": list(map(float, transform.std)),
            "resize": _sizes(transform.resize_size),
            "crop": _sizes(transform.crop_size),
            "interpolation": _interpolation(transform),
        }
    found: dict[str, Any] = {}
    stage = 0
    for part in _parts(transform):
        name = type(part).__name__
        if name in _IGNORED:
            scaled = name in ("ToTensor", "ConvertImageDtype") or getattr(part, "scale", False)
            if scaled:
                found["range"] = [0, 1]
            continue
        if name not in _ORDER:
            raise ConfigurationError(f"the transform {name} cannot be kept: write preprocessing.")
        if _ORDER[name] < stage:
            raise ConfigurationError(f"the transform {name} comes too late: write preprocessing.")
        stage = _ORDER[name]
        if name == "Resize":
            found |= {"resize": _sizes(part.size), "interpolation": _interpolation(part)}
        elif name == "CenterCrop":
            found["crop"] = _sizes(part.size)
        elif name == "Grayscale":
            found["channels"] = "grey" if part.num_output_channels == 1 else None
        else:
            found |= {"mean": list(map(float, part.mean)), "std": list(map(float, part.std))}
    if "range" not in found:
        found["range"] = [0, 255]
    return found


_ORDER = {"Resize": 0, "CenterCrop": 1, "Grayscale": 2, "Normalize": 3}


def _parts(transform: Any) -> Iterable[Any]:
    if type(transform).__name__ == "Compose":
        for part in transform.transforms:
            yield from _parts(part)
    else:
        yield transform


def _sizes(size: Any) -> list[int]:
    return [size] if isinstance(size, int) else [int(n) for n in size]


def _interpolation(part: Any) -> str:
    given = getattr(part, "interpolation", "bilinear")
    return str(getattr(given, "value", given))
