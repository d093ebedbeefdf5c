"""My images: replace what `read` returns."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ste_lightning.data import ImageData, Labelled


class MyData(ImageData):
    """Images that fit in memory; split, augmented and normalized by ImageData."""

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Return training images, test images and the names of the classes."""
        digits = load_digits()  # here yours: bytes (number, channels, height, width)
        images = (digits.images * (255 / 16)).astype(np.uint8)[:, None]
        train, test = train_test_split(
            np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0
        )
        pixels, labels = torch.from_numpy(images), torch.from_numpy(digits.target).long()
        return (
            Labelled(pixels[train], labels[train]),
            Labelled(pixels[test], labels[test]),
            tuple("0123456789"),
        )
