"""From files, pictures and arrays to predictions, with the preprocessing that a file carries."""

from ste_lightning.deploy.predict.predictions import Prediction, predict
from ste_lightning.deploy.predict.preprocessing import Preprocessing

__all__ = ["Prediction", "Preprocessing", "predict"]
