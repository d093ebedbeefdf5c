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
    "2503.15748": "Jin et al., *PARQ: Piecewise-Affine Regularized Quantization*",
    "2502.00490": "Wenshøj, Pepin and Selvan, *Oscillations Make Neural Networks Robust to "
    "Quantization*",
    "2203.11086": "Nagel et al., *Overcoming Oscillations in Quantization-Aware Training*",
    "2606.27759": "Smith and Islam, *Layerwise Progressive Freezing: A Training Scaffold for "
    "Depth-Scalable Binary Networks*",
    "2509.22935": "Dremov et al., *Compute-Optimal Quantization-Aware Training*",
    "2112.00133": "Zhang, Zhang and Lew, *PokeBNN: A Binary Pursuit of Lightweight Accuracy*",
    OURS: "Our own claims",
}
"""arXiv number, or :data:`OURS` -> what it is, in the order of the page."""
