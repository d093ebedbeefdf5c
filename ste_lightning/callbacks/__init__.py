"""Lightning callbacks for training with quantizers."""

from ste_lightning.callbacks.batch_norm_reestimation import BatchNormReestimation
from ste_lightning.callbacks.distillation import Distillation
from ste_lightning.callbacks.exact_resume import ExactResume
from ste_lightning.callbacks.finite_check import FiniteCheck
from ste_lightning.callbacks.last_checkpoint import LastCheckpoint
from ste_lightning.callbacks.late_weights import LateWeights
from ste_lightning.callbacks.latent_clipping import LatentClipping
from ste_lightning.callbacks.loading import load_quantized
from ste_lightning.callbacks.oscillation import OscillationDampening, OscillationFreezing
from ste_lightning.callbacks.quantization_aware_training import QuantizationAwareTraining
from ste_lightning.callbacks.quantization_monitor import QuantizationMonitor
from ste_lightning.callbacks.quantization_summary import QuantizationSummary
from ste_lightning.callbacks.quantizer_schedules import QuantizerSchedules
from ste_lightning.callbacks.recurrence_monitor import RecurrenceMonitor
from ste_lightning.callbacks.sign_averaging import SignAveraging
from ste_lightning.callbacks.training_progress import TrainingProgress
from ste_lightning.callbacks.transition_rate import TransitionRateScheduling

__all__ = [
    "BatchNormReestimation",
    "Distillation",
    "ExactResume",
    "FiniteCheck",
    "LastCheckpoint",
    "LateWeights",
    "LatentClipping",
    "OscillationDampening",
    "OscillationFreezing",
    "QuantizationAwareTraining",
    "QuantizationMonitor",
    "QuantizationSummary",
    "QuantizerSchedules",
    "RecurrenceMonitor",
    "SignAveraging",
    "TrainingProgress",
    "TransitionRateScheduling",
    "load_quantized",
]
