"""Random changes of training images, a whole batch at a time, without torchvision.

Every function takes images (N, C, H, W) and a NumPy generator, so that what a batch becomes depends
on the generator's seed alone. Images are bytes, or floats in 0..1 for mixing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "crop",
    "cutmix",
    "cutout",
    "flip",
    "mixup",
    "rand",
    "zoom",
]


def crop(images: Tensor, padding: int, rng: np.random.Generator) -> Tensor:
    """Move every image by up to ``padding`` pixels in both directions; black comes in."""
    count, _, height, width = images.shape
    moves = torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, count, 1)))
    rows, columns = torch.arange(height) + moves[0], torch.arange(width) + moves[1]
    padded = F.pad(images, (padding,) * 4)
    which = torch.arange(count)[:, None, None]
    # advanced indices around a slice come first: (N, H, W, C)
    moved = padded[which, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


def zoom(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """Enlarge a random part of every image, of ``smallest`` to all of its area.

    The sides of the part are as 3:4 to 4:3, as in C. Szegedy et al., Going Deeper with
    Convolutions (2015), section 6; it is taken from the image as it is given.
    """
    count = len(images)
    area = rng.uniform(smallest, 1, count)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    sides = np.minimum(np.sqrt(np.stack([area * ratio, area / ratio])), 1)
    places = rng.uniform(-1, 1, (2, count)) * (1 - sides)
    matrices = torch.zeros(count, 2, 3)
    for axis in (0, 1):
        matrices[:, axis, axis] = torch.from_numpy(sides[axis]).float()
        matrices[:, axis, 2] = torch.from_numpy(places[axis]).float()
    return _sheared(images.float(), matrices).round().to(torch.uint8)


def flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Exchange left and right in about half of the images."""
    turned = torch.from_numpy(rng.random(len(images)) < 0.5)
    return torch.where(turned[:, None, None, None], images.flip(-1), images)


def cutout(images: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Blacken a square of ``size`` pixels around a random pixel; it may reach over the edge.

    Source: T. DeVries and G. Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout (2017).
    """
    count, _, height, width = images.shape
    inside = (
        _inside(count, height, size, rng)[:, :, None] & _inside(count, width, size, rng)[:, None]
    )
    return images.masked_fill(inside[:, None], 0)


def _inside(count: int, length: int, size: int, rng: np.random.Generator) -> Tensor:
    first = torch.from_numpy(rng.integers(0, length, (count, 1))) - size // 2
    place = torch.arange(length)
    return (place >= first) & (place < first + size)


def _sheared(images: Tensor, matrices: Tensor) -> Tensor:
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


# where each of them stands in the matrix (2, 3) of an affine map
_PLACES = {"shear_x": (0, 1), "shear_y": (1, 0), "move_x": (0, 2), "move_y": (1, 2)}


def _affine(strength: float, kind: str, sign: float) -> Tensor:
    matrix = torch.eye(2, 3)
    if kind == "rotate":
        angle = torch.tensor(sign * strength * np.pi / 6)
        matrix[:, :2] = torch.stack(
            [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
        )
    else:
        row, column = _PLACES[kind]
        matrix[row, column] = sign * strength * (0.3 if column < 2 else 0.6)
    return matrix


_GEOMETRIC = ("rotate", *_PLACES)
_TONES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "identity": lambda x, strength, sign: x,
    "brightness": lambda x, strength, sign: x * (1 + 0.9 * sign * strength),
    "contrast": lambda x, strength, sign: _around(
        x, x.mean((-3, -2, -1), keepdim=True), sign * strength
    ),
    "color": lambda x, strength, sign: _around(x, x.mean(-3, keepdim=True), sign * strength),
    "posterize": lambda x, strength, sign: (
        torch.floor(x * 255 / 2 ** round(4 * strength)) * (2 ** round(4 * strength) / 255)
    ),
    "solarize": lambda x, strength, sign: torch.where(x >= 1 - strength, 1 - x, x),
    "autocontrast": lambda x, strength, sign: _stretched(x),
}


def _around(x: Tensor, centre: Tensor, amount: float) -> Tensor:
    return centre + (x - centre) * (1 + 0.9 * amount)


def _stretched(x: Tensor) -> Tensor:
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def rand(images: Tensor, count: int, magnitude: float, rng: np.random.Generator) -> Tensor:
    """RandAugment: ``count`` random operations on every image, each of the given magnitude.

    The operations are identity, automatic contrast, rotation (30 degrees at most), shear (0.3),
    translation (0.3 of the side), brightness, contrast, colour (0.1 to 1.9), posterization (down
    to 4 bits) and solarization.

    Source: E. Cubuk et al., RandAugment (2019).

    Args:
        images: bytes.
        count: operations for an image, in a row.
        magnitude: 0 (nothing) to 10 (as far as said above).
        rng: draws operations and directions.
    """
    x = images.float() / 255
    names = (*_GEOMETRIC, *_TONES)
    for _ in range(count):
        drawn, signs = rng.integers(0, len(names), len(x)), rng.choice([-1.0, 1.0], len(x))
        for index, name in enumerate(names):
            for sign in (-1.0, 1.0):
                chosen = torch.from_numpy(np.flatnonzero((drawn == index) & (signs == sign)))
                if len(chosen) == 0:
                    continue
                part = x[chosen]
                if name in _GEOMETRIC:
                    matrix = _affine(magnitude / 10, name, sign).expand(len(part), 2, 3)
                    part = _sheared(part, matrix)
                else:
                    part = _TONES[name](part, magnitude / 10, sign)
                x[chosen] = part.clamp(0, 1)
    return (x * 255).round().to(torch.uint8)


def _partners(targets: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.permutation(len(targets)))


def mixup(
    images: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Average every image and its target with those of another one of the batch.

    The weight is drawn once a batch from Beta(alpha, alpha). Source: H. Zhang et al., mixup (2018).

    Args:
        images: floats.
        targets: (N, classes), probabilities.
        alpha: above 0; small values mix little.
        rng: draws weight and partners.
    """
    weight, other = float(rng.beta(alpha, alpha)), _partners(targets, rng)
    return (
        weight * images + (1 - weight) * images[other],
        weight * targets + (1 - weight) * targets[other],
    )


def cutmix(
    images: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Replace a rectangle of every image by another one's; targets mix by area.

    Source: S. Yun et al., CutMix (2019). Args as in the paper: ``alpha`` of Beta(alpha, alpha).
    """
    height, width = images.shape[-2:]
    side, other = float(np.sqrt(1 - rng.beta(alpha, alpha))), _partners(targets, rng)
    y, x = rng.integers(0, height), rng.integers(0, width)
    top, left = max(0, int(y - side * height / 2)), max(0, int(x - side * width / 2))
    bottom, right = min(height, int(y + side * height / 2)), min(width, int(x + side * width / 2))
    images = images.clone()
    images[..., top:bottom, left:right] = images[other][..., top:bottom, left:right]
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return images, weight * targets + (1 - weight) * targets[other]


AUGMENTATIONS = ("zoom", "crop", "flip", "rand", "cutout", "mixup", "cutmix")


class Augmentation:
    """Augmentations in the order zoom, crop, flip, rand, cutout, then mixup or cutmix.

    Args:
        settings: ``zoom``: smallest share of the area; ``crop``: pixels of padding; ``flip``:
            true; ``rand``: ``{count: 2, magnitude: 9}``; ``cutout``: side of the square;
            ``mixup`` and ``cutmix``: alpha. Where both are given a batch takes one of them, each
            in half of the cases.
        size: (height, width) of the images.

    Raises:
        ConfigurationError: for another name and for values out of range.
    """

    def __init__(self, settings: Mapping[str, Any] | None, size: tuple[int, int]) -> None:
        given = {
            key: value for key, value in (settings or {}).items() if value not in (None, False, 0)
        }
        for key in given:
            if key not in AUGMENTATIONS:
                raise unknown("augmentation", key, AUGMENTATIONS)
        for key in ("crop", "cutout"):
            value, most = given.get(key, 1), min(size)
            fits = type(value) is int and 0 < value < most
            require(fits, f"augment.{key}", value, f"use 1 to {most - 1} pixels")
        require(
            given.get("flip", True) is True, "augment.flip", given.get("flip"), "use true or false"
        )
        value = given.get("zoom", 0.5)
        fits = isinstance(value, (int, float)) and 0 < value <= 1
        require(fits, "augment.zoom", value, "use a share of the area, such as 0.08")
        for key in ("mixup", "cutmix"):
            value = given.get(key, 1)
            fits = isinstance(value, (int, float)) and 0 < value < 100
            require(fits, f"augment.{key}", value, "use a positive number such as 0.2")
        self.rand: tuple[int, float] | None = None
        if "rand" in given:
            node = given["rand"]
            if not isinstance(node, Mapping) or set(node) != {"count", "magnitude"}:
                raise ConfigurationError(
                    f"augment.rand={node!r} cannot be used: write {{count: 2, magnitude: 9}}."
                )
            count, magnitude = node["count"], node["magnitude"]
            require(type(count) is int and count > 0, "augment.rand.count", count, "use 1 or more")
            fits = isinstance(magnitude, (int, float)) and 0 <= magnitude <= 10
            require(fits, "augment.rand.magnitude", magnitude, "use 0 to 10")
            self.rand = (count, float(magnitude))
        self.given = given

    @property
    def mixes(self) -> bool:
        """Whether targets become probabilities (N, classes)."""
        return "mixup" in self.given or "cutmix" in self.given

    def changed(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Return images changed one by one: bytes in, bytes out."""
        if "zoom" in self.given:
            images = zoom(images, self.given["zoom"], rng)
        if "crop" in self.given:
            images = crop(images, self.given["crop"], rng)
        if "flip" in self.given:
            images = flip(images, rng)
        if self.rand is not None:
            images = rand(images, *self.rand, rng)
        if "cutout" in self.given:
            images = cutout(images, self.given["cutout"], rng)
        return images

    def mixed(
        self, images: Tensor, targets: Tensor, classes: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images (floats) and targets mixed among each other, if that was asked for."""
        if not self.mixes:
            return images, targets
        both = "mixup" in self.given and "cutmix" in self.given
        kind = ("mixup", "cutmix")[int(rng.integers(2))] if both else ""
        mix = cutmix if kind == "cutmix" or "mixup" not in self.given else mixup
        soft = F.one_hot(targets, classes).to(images.dtype)
        return mix(images, soft, float(self.given[mix.__name__]), rng)
