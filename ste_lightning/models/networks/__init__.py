"""Networks with exchangeable quantizers: small ones, and those of the literature.

Passing ``None`` for both quantizers gives the float twin: the same layers, the same parameters in
the same order, and ReLU where the quantized network has its input quantizer. Parameters and
products of the published networks are those of their papers (tests/models/test_networks.py).
"""

from ste_lightning.models.networks.bnn_pynq import CNV, LFC, SFC, TFC
from ste_lightning.models.networks.residual import ResNet, ResNet18, ResNet20
from ste_lightning.models.networks.small import MLP, ConvNet
from ste_lightning.models.networks.vgg import VGGSmall

__all__ = [
    "CNV",
    "LFC",
    "MLP",
    "SFC",
    "TFC",
    "ConvNet",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "VGGSmall",
]
