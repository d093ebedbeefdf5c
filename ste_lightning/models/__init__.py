"""LightningModules: the two-layer network of the theory, a classifier, a language model."""

from ste_lightning.models.classifier import Classifier
from ste_lightning.models.language_model import LanguageModel
from ste_lightning.models.two_layer import BinaryTwoLayer

__all__ = ["BinaryTwoLayer", "Classifier", "LanguageModel"]
