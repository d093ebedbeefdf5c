"""Calibrate and check the quantizers during the first batches."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from ste_lightning.convert import Calibration, QuantizerWatch
from ste_lightning.errors import ConfigurationError

__all__ = ["FirstBatches"]


class FirstBatches:
    """Watches and calibrates until enough batches have passed, then leaves no trace.

    Compiled modules run eagerly meanwhile: compiled code does not call the hooks.

    Args:
        model: a module with quantized layers.
        watch: how many batches decide whether an input quantizer is dead; then it is an error.
        calibrate: how many batches more set the scales of the inputs.
        calibration: takes these batches.
        look_again: whether to look at one batch although ``watch`` is 0; then only with a
            warning, and only where nothing is compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        watch: int,
        calibrate: int,
        calibration: Calibration,
        look_again: bool,
    ) -> None:
        self.compiled = _has_compiled(model)
        self.strict = watch > 0
        if look_again and not self.compiled:
            watch = 1
        self.remaining = {"watch": watch, "calibrate": calibrate}
        self.watch = QuantizerWatch(model)
        self.calibration = calibration
        if calibrate:
            self.calibration.attach()
        if watch:
            self.watch.attach()
        if self.compiled and (watch or calibrate):
            torch.compiler.set_stance("force_eager")

    def batch_done(self) -> bool:
        """Count a batch; return whether all is done.

        Raises:
            ConfigurationError: if an input quantizer is dead and this is the first time we look.
        """
        for key in self.remaining:
            self.remaining[key] -= 1
        if self.remaining["calibrate"] == 0:
            self.calibration.finish()
        if self.remaining["watch"] == 0:
            self.watch.detach()
            self._judge()
        if max(self.remaining.values()) > 0:
            return False
        self.close()
        return True

    def _judge(self) -> None:
        findings = self.watch.findings()
        severe = [finding.message for finding in findings if finding.severe]
        if severe and self.strict:
            raise ConfigurationError("\n".join(severe))
        for finding in findings:
            rank_zero_warn(finding.message)

    def close(self) -> None:
        """Remove the hooks and let compiled modules run compiled."""
        self.calibration.detach()
        self.watch.detach()
        if self.compiled:
            torch.compiler.set_stance("default")
            self.compiled = False


def _has_compiled(model: nn.Module) -> bool:
    return any(
        "_orig_mod" in module._modules or module._compiled_call_impl is not None
        for module in model.modules()
    )
