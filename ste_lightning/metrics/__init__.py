"""What to watch while binary weights train, as torchmetrics.

States persist in checkpoints, so that counts go on where a resumed run stopped.
"""

from ste_lightning.metrics.flip_ratio import FlipRatio
from ste_lightning.metrics.recovery import Recovery
from ste_lightning.metrics.recurrence import Recurrence

__all__ = [
    "FlipRatio",
    "Recovery",
    "Recurrence",
]
