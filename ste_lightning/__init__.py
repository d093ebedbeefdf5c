"""Quantization-aware training with straight-through estimators for PyTorch Lightning."""

__version__ = "0.1.0"
