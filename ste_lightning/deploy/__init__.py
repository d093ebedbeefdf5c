"""Packed models: small, fast, exact, and independent of training code.

``pack`` turns a trained model into a network of packed integers, ``save`` and ``load`` keep it in
one file. Nothing here imports lightning or hydra.
"""

from ste_lightning.deploy.file.load import load
from ste_lightning.deploy.file.save import save
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.attention import PackedAttention
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.transposed import PackedConvTranspose
from ste_lightning.deploy.pack import pack

__all__ = [
    "PackedAttention",
    "PackedConv",
    "PackedConvTranspose",
    "PackedEmbedding",
    "PackedLayer",
    "PackedLinear",
    "PackedNetwork",
    "load",
    "pack",
    "save",
]
