"""LightningModules: the two-layer network of the theory, a classifier for real data."""

from ste_lightning.models.classifier import Classifier

__all__ = ["Classifier"]
