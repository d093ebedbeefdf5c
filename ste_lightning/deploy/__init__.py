"""Packed models: small, fast, exact, and independent of training code.

``pack`` turns a trained model into a network of packed integers, ``save`` and ``load`` keep it in
one file. Nothing here imports lightning or hydra.
"""

from ste_lightning.deploy.attention import PackedAttention
from ste_lightning.deploy.embedding import PackedEmbedding
from ste_lightning.deploy.layers import PackedConv, PackedLinear
from ste_lightning.deploy.load import load
from ste_lightning.deploy.network import PackedNetwork
from ste_lightning.deploy.pack import pack
from ste_lightning.deploy.packed_layer import PackedLayer
from ste_lightning.deploy.save import save
from ste_lightning.deploy.transposed import PackedConvTranspose

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
