"""Data modules: teacher-student problems, public data sets, one's own images, texts, tables."""

from ste_lightning.data.cifar import CIFAR10, CIFAR100
from ste_lightning.data.digits import Digits
from ste_lightning.data.hugging_face import HuggingFaceImages
from ste_lightning.data.images import ImageData, Labelled
from ste_lightning.data.mnist import EMNIST, KMNIST, MNIST, MNIST5000, FashionMNIST
from ste_lightning.data.own_images import Arrays, ImageFolder
from ste_lightning.data.tables import Table
from ste_lightning.data.teacher_student import TeacherStudent
from ste_lightning.data.text import Text

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
    "HuggingFaceImages",
    "ImageData",
    "ImageFolder",
    "Labelled",
    "Table",
    "TeacherStudent",
    "Text",
]
