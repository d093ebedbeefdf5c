"""What to watch while binary weights train, as torchmetrics.

States persist in checkpoints, so that counts go on where a resumed run stopped.
"""

from ste_lightning.metrics.flip_ratio import FlipRatio
from ste_lightning.metrics.latent_histogram import LatentHistogram
from ste_lightning.metrics.latents import Latent, grid_levels, latents
from ste_lightning.metrics.levels import DeadChannels, ScaleDrift, SignEntropy
from ste_lightning.metrics.oscillation import OscillationFrequency
from ste_lightning.metrics.per_layer import PerLayer
from ste_lightning.metrics.recovery import Recovery
from ste_lightning.metrics.recurrence import Recurrence
from ste_lightning.metrics.saturation import Saturation, quantizer_derivative
from ste_lightning.metrics.surrogate_error import EstimatingError, GradientStability

__all__ = [
    "DeadChannels",
    "EstimatingError",
    "FlipRatio",
    "GradientStability",
    "Latent",
    "LatentHistogram",
    "OscillationFrequency",
    "PerLayer",
    "Recovery",
    "Recurrence",
    "Saturation",
    "ScaleDrift",
    "SignEntropy",
    "grid_levels",
    "latents",
    "quantizer_derivative",
]
