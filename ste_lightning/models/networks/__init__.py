"""Networks with exchangeable quantizers: small ones, and those of the literature.

Passing ``None`` for both quantizers gives the float twin: the same layers, the same parameters in
the same order, and ReLU where the quantized network has its input quantizer (nothing where it
has activations of its own: ReActNet, QuickNet, MobileNetV2, transformers). Parameters and products
of the published networks are those of their papers (tests/models).
"""

from ste_lightning.models.networks.bnn_pynq import CNV, LFC, SFC, TFC
from ste_lightning.models.networks.dense import BinaryDenseNet28, MeliusNet22
from ste_lightning.models.networks.mobilenet import MobileNetV2
from ste_lightning.models.networks.n2uq import N2UQResNet18
from ste_lightning.models.networks.quicknet import QuickNet
from ste_lightning.models.networks.reactnet import ReActNet18, ReActNetA
from ste_lightning.models.networks.residual import ResNet, ResNet18, ResNet20
from ste_lightning.models.networks.small import MLP, ConvNet
from ste_lightning.models.networks.transformer import CharacterModel, SequenceClassifier, ViT
from ste_lightning.models.networks.vgg import VGGSmall
from ste_lightning.models.networks.xnornet import XNORNet

__all__ = [
    "CNV",
    "LFC",
    "MLP",
    "SFC",
    "TFC",
    "BinaryDenseNet28",
    "CharacterModel",
    "ConvNet",
    "MeliusNet22",
    "MobileNetV2",
    "N2UQResNet18",
    "QuickNet",
    "ReActNet18",
    "ReActNetA",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "SequenceClassifier",
    "VGGSmall",
    "ViT",
    "XNORNet",
]
