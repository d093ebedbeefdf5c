"""The papers whose claims are measured."""

from __future__ import annotations

__all__ = ["OURS", "SOURCES"]

OURS = "ours"

SOURCES = {
    "2505.18113v2": "Jeong, Xin and Yin, *Beyond Discreteness: Sample Complexity Analysis of "
    "Straight-Through Estimator for 1-bit Quantization*, version 2",
    "1903.05662": "Yin et al., *Understanding Straight-Through Estimator in Training Activation "
    "Quantized Neural Nets*",
    "2510.10693": "Ichikawa, Kashiwamura and Sakata, *High-Dimensional Learning Dynamics of "
    "Quantized Models with Straight-Through Estimator*",
    "2405.05171": "Schoenbauer, Moro, Lew and Howard, *Custom Gradient Estimators are "
    "Straight-Through Estimators in Disguise*",
    "2211.03741": "Leconte et al., *ASkewSGD: An Annealed interval-constrained Optimisation method "
    "to train Quantized Neural Networks*",
    "2110.13220": "Dockhorn, Yu, Sari, Zolnouri and Partovi Nia, *Demystifying and Generalizing "
    "BinaryConnect*",
    OURS: "Our own claims",
}
"""arXiv number, or :data:`OURS` -> what it is, in the order of the page."""
