"""Does a trainer fit a quantized model: its other callbacks, its strategy, its processes?"""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.quantizers import bits_of

__all__ = [
    "averaging_callbacks",
    "refuse_earlier_copies",
    "refuse_unused_scales",
    "warn_of_averaged_signs",
    "warn_of_own_processes",
]


def averaging_callbacks(trainer: L.Trainer) -> list[str]:
    """Return the names of the callbacks that average weights (EMA, SWA)."""
    return [
        type(callback).__name__
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, (StochasticWeightAveraging, WeightAveraging))
    ]


def refuse_earlier_copies(callback: L.Callback, trainer: L.Trainer) -> None:
    """Refuse averaging before the callback that quantizes: it has copied the float model.

    Raises:
        ConfigurationError: with the order that works.
    """
    for other in trainer.callbacks:  # type: ignore[attr-defined]
        if other is callback:
            return
        if isinstance(other, WeightAveraging):
            ours = type(callback).__name__
            raise ConfigurationError(
                f"callbacks=[{type(other).__name__}, {ours}] cannot be used in this order: put "
                f"{ours} first, as averaging copies the model that it finds."
            )


def warn_of_averaged_signs(trainer: L.Trainer, module: nn.Module) -> None:
    """Warn where latent weights of binary layers are averaged."""
    averaging = averaging_callbacks(trainer)
    layers = [layer for _, layer in named_quantized_layers(module)]
    binary = [layer for layer in layers if bits_of(layer.weight_quantizer) <= 1]
    if averaging and binary:
        rank_zero_warn(
            f"{averaging[0]} averages the latent weights of {len(binary)} layers with binary "
            "weights: the sign of an average is not an average of signs, and accuracy usually "
            "falls, as batch norm's statistics do not fit. Use SignAveraging, or leave it out."
        )


def refuse_unused_scales(trainer: L.Trainer, module: nn.Module, start_epoch: int) -> None:
    """Refuse DDP that waits for gradients of scales which nothing uses before ``start_epoch``.

    Raises:
        ConfigurationError: with the strategy that works.
    """
    strategy = trainer.strategy
    if start_epoch == 0 or not isinstance(strategy, DDPStrategy):
        return
    learned = any(
        p.requires_grad
        for _, layer in named_quantized_layers(module)
        for quantizer in (layer.weight_quantizer, layer.input_quantizer)
        if quantizer is not None
        for p in quantizer.parameters()
    )
    require(
        not learned or bool(strategy._ddp_kwargs.get("find_unused_parameters")),
        "start_epoch",
        start_epoch,
        "learned scales get no gradient before it, which DDP only allows with "
        "strategy='ddp_find_unused_parameters_true'",
    )


def warn_of_own_processes(trainer: L.Trainer) -> None:
    """Warn where the module that fit was given stays float, as others in other processes train."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        rank_zero_warn(
            "training runs in processes of their own (as ddp_fork, ddp_spawn and ddp_notebook do): "
            "the module in the process that calls fit gets the latent weights back, but stays "
            "float. Quantize it before, by quantize_ with the same policy, or read the checkpoint "
            "by load_quantized."
        )
