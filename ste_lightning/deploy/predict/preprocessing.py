"""What a network takes: the shape of a sample, and how pixels become its numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["INTERPOLATIONS", "KEYS", "Preprocessing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box")
KEYS = ("channels", "range", "mean", "std", "resize", "crop", "interpolation", "background")
_CHANNELS = {"grey": 1, "rgb": 3, "bgr": 3}
_MOST = 1 << 16


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    r"""How a sample becomes what the network was trained on.

    With p in 0..1 a pixel (0 is black), of a picture that is resized and cropped first,

    .. math:: x = (low + (high - low) p - mean_c) / std_c.

    torchvision's usual constants belong to ``range=(0, 1)``, Caffe's to ``channels="bgr"`` and
    ``range=(0, 255)``.

    Attributes:
        shape: one sample without the batch, (channels, height, width) for images; None or 0 in
            it stands for any size; None: not known.
        channels: order of the channels: ``"rgb"``, ``"bgr"`` or ``"grey"``.
        range: (low, high), what black and white are before mean and deviation; None: not known.
        mean, std: one number, or one per channel in the network's order.
        resize: a number: the shorter side becomes so long; two: (height, width), whatever the
            picture's proportions; None: to the size of the network's input.
        fit: resized to cover the network's input, and what hangs over is cut off
            (``"resize": "fit"``).
        crop: (height, width) around the centre; None: the size of the network's input.
        interpolation: one of ``nearest, bilinear, bicubic, lanczos, box``; all but the first
            average over what they leave out.
        background: grey level 0..255 behind transparent pixels.
        integers: whether samples are whole numbers, such as tokens.
    """

    shape: tuple[int, ...] | None = None
    channels: str | None = None
    range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: tuple[int, ...] | None = None
    fit: bool = False
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    background: int = 255
    integers: bool = False

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Preprocessing:
        """Return what a network's ``info`` says; everything is checked.

        Args:
            info: ``input_shape``, ``input_dtype`` and ``preprocessing``, a mapping with any of
                :data:`KEYS`. Older files have ``normalization``, a mapping with mean and std.

        Raises:
            ConfigurationError: for a key or a value that cannot be, by name.
        """
        given = info.get("preprocessing", info.get("normalization"))
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"preprocessing={given!r} cannot be used: write a mapping.")
        for key in given:
            if key not in KEYS:
                raise unknown("key of preprocessing", key, KEYS)
        found = {key: value for key, value in given.items() if value is not None}
        shape, channels = _shape(info.get("input_shape")), found.get("channels")
        images = shape is not None and len(shape) == 3 and shape[0] in (1, 3)
        if channels is None and shape is not None and images:
            channels = "grey" if shape[0] == 1 else "rgb"
        if channels is not None and channels not in _CHANNELS:
            raise unknown("channels", channels, _CHANNELS)
        interpolation = found.get("interpolation", "bilinear")
        if interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", interpolation, INTERPOLATIONS)
        limits = _numbers("range", found.get("range", ()))
        rising = len(limits) == 2 and limits[0] < limits[1]
        require(not limits or rising, "range", list(limits),
                "give two rising numbers, such as [0, 1] or [0, 255]")  # fmt: skip
        background = found.get("background", 255)
        level = type(background) is int and 0 <= background <= 255
        require(level, "background", background, "use a grey level of 0 to 255")
        fit, crop = found.get("resize") == "fit", _sizes("crop", found.get("crop"))
        require(not fit or crop is None, "crop", found.get("crop"), "resize: fit crops by itself")
        made = cls(
            shape,
            channels,
            (limits[0], limits[1]) if rising else None,
            _numbers("mean", found.get("mean", ())),
            _numbers("std", found.get("std", ())),
            None if fit else _sizes("resize", found.get("resize")),
            fit,
            None if crop is None else (crop[0], crop[-1]),
            interpolation,
            background,
            "int" in str(info.get("input_dtype", "")),
        )
        made._check()
        return made

    def _check(self) -> None:
        """Refuse what does not fit the shape of a sample."""
        require(all(v > 0 for v in self.std), "std", list(self.std), "it must be positive")
        if self.shape is None:
            return
        for key, values in (("mean", self.mean), ("std", self.std)):
            fits = len(values) < 2 or len(values) in (self.shape[0], self.shape[-1])
            require(fits, key, list(values), f"give one number, or one per channel of {self.shape}")
        if self.channels is None:
            return
        images = len(self.shape) == 3 and self.shape[0] == _CHANNELS[self.channels]
        taken = f"the network takes samples of shape {self.shape}"
        require(images, "channels", self.channels, taken)
        both = self.resize if self.resize is not None and len(self.resize) == 2 else None
        last, key = (self.crop, "crop") if self.crop else (both, "resize")
        if last is not None:
            fits = all(w in (0, n) for w, n in zip(self.shape[1:], last, strict=True))
            require(fits, key, list(last), taken)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that pictures get; None where the network takes any."""
        if self.crop is not None:
            return self.crop
        if self.shape is not None and len(self.shape) == 3 and all(self.shape[1:]):
            return self.shape[1], self.shape[2]
        if self.resize is not None and len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        return None

    def known_range(self) -> tuple[tuple[float, float], str]:
        """Return the range of pixels, and a remark where it had to be concluded.

        Raises:
            ConfigurationError: where nothing tells it.
        """
        if self.range is not None:
            return self.range, ""
        numbers = [*self.mean, *self.std]
        plain = set(self.mean) == {0} and set(self.std) == {1}  # say nothing
        remark = "the file does not say the range of pixels; its mean and deviation fit {}"
        if numbers and max(map(abs, numbers)) <= 1 and not plain:
            return (0.0, 1.0), remark.format("0..1")
        if self.mean and 16 <= max(self.mean) <= 255:
            return (0.0, 255.0), remark.format("0..255")
        raise ConfigurationError(
            "the file does not say in which range the network takes pixels: add range=0..1 if it "
            "was trained on numbers of 0 to 1 (before mean and deviation), range=0..255 for "
            "bytes; info={'preprocessing': {'range': [0, 1]}} of pack() writes it into the file."
        )

    def scaled(self, pixels: Tensor) -> Tensor:
        """Map pixels of 0..1 to the network's range.

        Raises:
            ConfigurationError: where the range is not known.
        """
        low, high = self.known_range()[0]
        if high - low != 1:
            pixels = pixels * (high - low)
        return pixels + low if low else pixels

    def normalized(self, x: Tensor) -> Tensor:
        """Return (x - mean) / std for samples (N, ...); channels are the axis after N.

        Where samples are rows of numbers, or have as many numbers as there are means on their
        last axis only, that is it.
        """
        for values, apply in ((self.mean, Tensor.sub), (self.std, Tensor.div)):
            if not values:
                continue
            constants = torch.tensor(values, dtype=torch.float32)
            if len(values) > 1:
                first = x.dim() > 2 and x.shape[1] == len(values)
                constants = constants.view(-1, *[1] * (x.dim() - 2)) if first else constants
            x = apply(x, constants)
        return x


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    sound = isinstance(value, (list, tuple)) and all(
        n is None or (type(n) is int and 0 <= n < _MOST) for n in value
    )
    require(sound, "input_shape", value, "give the sizes of one sample, without the batch")
    return tuple(n or 0 for n in value)


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    sound = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    require(sound and all(map(math.isfinite, values)), key, value, "give finite numbers")
    return tuple(map(float, values))


def _sizes(key: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    values = value if isinstance(value, (list, tuple)) else [value]
    sound = len(values) in (1, 2) and all(type(v) is int and 0 < v < _MOST for v in values)
    require(sound, key, value, "give a positive number, [height, width], or fit")
    return tuple(values)
