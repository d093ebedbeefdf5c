"""What quantizers with learned scales share: the first values come from data."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed

from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import Surrogate
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.quantizer import Operand, Quantizer

__all__ = ["Calibrated", "Steps", "no_data", "warn_of_no_data"]


class Steps(Quantizer):
    """A quantizer whose grid has a learned step (or clipping value) that must stay positive.

    An optimizer may move it to zero or below, where the quantizer gives out nothing but zeros and
    learns nothing any more. On the CPU the next forward pass in training mode brings it back and
    says so. Elsewhere, where looking would wait for the device, it is used as 1e-8, and
    :class:`~ste_lightning.callbacks.QuantizationAwareTraining` reports it after the epoch.
    """

    learned_steps: ClassVar[tuple[str, ...]] = ()

    def smallest_step(self) -> Tensor | None:
        """Return the smallest learned step, 0-d; ``None`` without any."""
        steps = [self.get_parameter(name).detach() for name in self.learned_steps]
        lowest = [widen(step).amin() for step in steps if step.numel() and not step.is_meta]
        return torch.stack(lowest).amin() if lowest else None

    def keep_positive(self, x: Tensor) -> None:
        """Bring collapsed steps back, on the CPU and in training mode."""
        if not self.training or torch.compiler.is_compiling():
            return
        if torch._C._are_functorch_transforms_active():
            return
        for name in self.learned_steps:
            step = self._parameters[name]
            if step is not None and step.is_cpu and step.numel():
                value = step.item() if step.numel() == 1 else step.min().item()
                if value <= SMALLEST:
                    self.revive(name, x)

    @torch.no_grad()
    def revive(self, name: str, x: Tensor) -> None:
        """Set a learned step where it is not above zero to its start for ``x``, with a warning.

        Where ``x`` is all zeros there is nothing to learn, and nothing is said.
        """
        step, first = self.get_parameter(name), self.first_step(name, x.detach())
        dead = (step <= SMALLEST) & (first > SMALLEST)
        if bool(dead.any()):
            warnings.warn(
                f"the learned step {name!r} of {type(self).__name__}({self.extra_repr()}) was "
                f"{float(step.amin()):.3g}, where nothing is learned: it starts from data again. "
                "Lower its learning rate or leave it out of the weight decay.",
                stacklevel=2,
            )
            step.copy_(torch.where(dead, first.to(step.dtype), step))

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return where the learned step ``name`` starts for the values ``x``."""
        raise TypeError(f"{type(self).__name__} must define first_step(name, x)")

    def check(self, operand: str) -> None:
        """Raise unless the quantizer can be deployed: its step is positive."""
        super().check(operand)
        smallest = self.smallest_step()
        if smallest is not None and float(smallest) <= SMALLEST:
            raise ConfigurationError(
                f"the learned step (scale) of its {operand} quantizer is {float(smallest):.3g}, "
                "not positive: the quantizer has collapsed; train on with a lower learning rate"
            )


class Calibrated(Steps):
    """A quantizer whose learned parameters start from data.

    Weights: the layer calls :meth:`initialize` when it is made. Activations: the first batch in
    training mode does, averaged over processes; :attr:`initialized` remembers it in
    checkpoints. Before, in evaluation, inputs pass as they are, with a warning.
    """

    initialized: Tensor

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        operand: Operand = "activations",
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.operand = operand
        self.register_buffer("initialized", torch.tensor(0))  # averaging cannot take a bool
        self._ready = False  # what compiled code branches on, without reading the buffer

    def _set_from(self, x: Tensor) -> None:
        """Set the learned parameters from the float values ``x``."""
        raise TypeError(f"{type(self).__name__} must define _set_from(x)")

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set the learned parameters from ``x``, weights or a batch of activations."""
        self._set_from(x.detach())
        self.initialized.fill_(True)
        self._ready = True

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the data: the next training batch sets the learned parameters."""
        super().reset_parameters()
        self.initialized.fill_(False)
        self._ready = False

    def ready(self, x: Tensor) -> bool:
        """Make the quantizer ready for ``x``; return whether it is.

        In training mode the first values set the parameters, and a step that has collapsed is
        set anew. A second call with the same values changes nothing.

        Raises:
            ConfigurationError: inside ``torch.func``, where no state can be set.
        """
        if self._ready:
            if self.training:
                self.keep_positive(x)
            return True
        if torch.compiler.is_compiling():
            if self.training:
                self._first(x)
            return self._ready
        if not self.initialized.is_meta and bool(self.initialized):  # set by averaging or copying
            self._ready = True
        elif not self.training:
            return False
        elif torch._C._are_functorch_transforms_active():
            raise ConfigurationError(
                f"{type(self).__name__} has seen no data, and inside torch.func it cannot keep "
                "what it sees: run one batch in training mode first."
            )
        else:
            self._first(x)
        return True

    def _first(self, x: Tensor) -> None:
        """Set the parameters from the first values, averaged over processes."""
        self.initialize(x)
        if distributed.is_available() and distributed.is_initialized():
            for parameter in self.parameters():
                distributed.all_reduce(parameter.data)
                parameter.data.div_(distributed.get_world_size())

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values; the first call in training mode sets the parameters."""
        if not self.ready(x):
            warn_of_no_data(self)
            return x
        return super().forward(x)

    def check(self, operand: str) -> None:
        """Raise unless the quantizer can be deployed: it has seen data, its step is positive."""
        if not bool(self.initialized):
            raise no_data(operand)
        super().check(operand)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.initialized.is_meta:
            self._ready = bool(self.initialized)


def warn_of_no_data(quantizer: Quantizer) -> None:
    """Say that an input passes in float, as nothing is known of its range."""
    if not torch.compiler.is_compiling():
        warnings.warn(
            f"{type(quantizer).__name__}({quantizer.extra_repr()}) has seen no data: its input "
            "passes in float. Train, calibrate, or load a checkpoint first.",
            stacklevel=3,
        )


def no_data(operand: str) -> ConfigurationError:
    """Return the error for deploying a quantizer that has no range."""
    return ConfigurationError(
        f"its {operand} quantizer has seen no data, so that its range is not known; train, "
        "calibrate (a batch in training mode), or load a checkpoint first"
    )
