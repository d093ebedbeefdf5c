"""Lightning callbacks for training with quantizers."""

from ste_lightning.callbacks.latent_clipping import LatentClipping

__all__ = ["LatentClipping"]
