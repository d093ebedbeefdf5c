"""LightningModules: the two-layer network of the theory, a classifier for real data."""

from ste_lightning.models.classifier import Classifier
from ste_lightning.models.two_layer import BinaryTwoLayer

__all__ = ["BinaryTwoLayer", "Classifier"]
