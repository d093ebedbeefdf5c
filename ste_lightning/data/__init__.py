"""Data modules: teacher-student problems, public image data sets, and one's own images."""

from ste_lightning.data.digits import Digits
from ste_lightning.data.images import ImageData, Labelled
from ste_lightning.data.public import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    KMNIST,
    MNIST,
    MNIST5000,
    Arrays,
    FashionMNIST,
    ImageFolder,
)
from ste_lightning.data.teacher_student import TeacherStudent

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "MNIST5000",
    "Arrays",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "Labelled",
    "TeacherStudent",
]
