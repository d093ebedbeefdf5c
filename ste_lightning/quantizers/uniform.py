"""Uniform grids of 1 to 8 bits: symmetric or affine, per tensor, channel or group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.calibrated import no_data, warn_of_no_data
from ste_lightning.quantizers.levels import (
    GRANULARITIES,
    check_bits,
    join_groups,
    joined_scale,
    reduced_axes,
    split_groups,
)
from ste_lightning.quantizers.quantizer import Operand, Quantizer
from ste_lightning.quantizers.ranges import RANGES, least_squares_shrinkage
from ste_lightning.quantizers.registry import register_quantizer
from ste_lightning.quantizers.step_range import StepRange

__all__ = ["Uniform"]


@register_quantizer("uniform")
class Uniform(Quantizer):
    """q(x) = s (clip(round(x / s + z), low, high) - z).

    Symmetric: z = 0, high = -low = 2^(b-1) - 1, s = max|x| / high; with one bit the levels are
    -s and +s, s = mean|x|. Affine: low = 0, high = 2^b - 1, s = (max - min) / high over a range
    that includes 0, z = round(-min / s), so that 0 is always a level.

    dq/dx := f'(cell) inside [low, high], 0 outside. Weights take their range from each tensor
    anew; activations from a running average in buffers, so that evaluation does not depend on
    the batch. It moves once per optimizer step, towards the union of what the step's batches
    hold: a forward pass that is repeated, by activation checkpointing or for gradients that
    accumulate, sees the same range again. Inside ``torch.func`` it does not move, and in a layer
    whose weights are frozen no more than once, to the first data. Without any data yet,
    evaluation lets inputs pass, with a warning.

    Args:
        bits: 1 to 8.
        rule: the backward rule around each transition; default ``"identity"``.
        symmetric: default True for weights, False for activations.
        granularity: one range per ``"tensor"``, ``"channel"`` or ``"group"``; default channel
            for weights; activations know tensor only.
        group_size: how many inputs of one output channel share a range, for ``"group"``.
        range: ``"minmax"``, or ``"mse"``: shrunk for the least squared error.
        momentum: of the activations' running range.
        operand: what is quantized; it sets the defaults above.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, an unknown rule, granularity or range, a
            group that does not divide the fan-in, or activations per channel or group.

    Source: Jacob et al. 2018, arXiv 1712.05877; Krishnamoorthi 2018, arXiv 1806.08342.
    """

    default_rule = "identity"
    between_levels: ClassVar[bool] = True
    schedulable: ClassVar[tuple[str, ...]] = ("bits",)
    has_binary: ClassVar[bool] = True
    minimum: Tensor
    maximum: Tensor
    initialized: Tensor
    step_range: StepRange
    resting: bool = False  # set by a layer while its weights are frozen

    def __init__(
        self,
        bits: int = 8,
        rule: str | Surrogate | None = None,
        symmetric: bool | None = None,
        granularity: str | None = None,
        group_size: int | None = None,
        range: str = "minmax",
        momentum: float = 0.1,
        operand: Operand = "activations",
        channel_dim: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        weights = operand == "weights"
        if granularity is None:
            granularity = ("channel" if group_size is None else "group") if weights else "tensor"
        if granularity not in (*GRANULARITIES, "group"):
            raise unknown("granularity", granularity, (*GRANULARITIES, "group"))
        require(
            weights or granularity == "tensor",
            "granularity",
            granularity,
            "activations have one running range; use 'tensor', or the map 'token'",
        )
        require(
            (granularity == "group") == (group_size is not None and group_size >= 1),
            "group_size",
            group_size,
            "give a positive number with granularity='group', and none otherwise",
        )
        if range not in RANGES:
            raise unknown("range", range, RANGES)
        require(0 < momentum <= 1, "momentum", momentum, "use a number in (0, 1]")
        self.bits = check_bits(bits)
        self.symmetric = weights if symmetric is None else symmetric
        self.granularity = granularity
        self.group_size = group_size
        self.range = range
        self.momentum = momentum
        self.operand = operand
        self.channel_dim = channel_dim
        self.binary = self.symmetric and bits == 1
        require(
            (weights and self.has_binary) or not self.binary,
            "bits",
            bits,
            "for one symmetric bit use the map 'sign' or 'stochastic_sign', or symmetric=False",
        )
        self.running = not weights
        self._ready = not self.running  # without reading the buffer
        if self.running:
            for name in ("minimum", "maximum"):
                self.register_buffer(name, torch.zeros(()))
            self.register_buffer("initialized", torch.tensor(0))  # averaging cannot take a bool
        vars(self)["step_range"] = StepRange()  # transient, so no part of the module's tree

    def ends(self) -> tuple[Tensor | float, Tensor | float]:
        """Return the smallest and the largest level, before the zero point is subtracted."""
        if self.symmetric:
            high = 2 ** (self.bits - 1) - 1
            return -high, high
        high = 2**self.bits - 1
        return 0 * high, high

    def _grid(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the step and the zero point of the grid for data in [low, high]."""
        _, last = self.ends()
        smallest = torch.finfo(low.dtype).tiny / torch.finfo(low.dtype).eps
        if self.symmetric:
            return (torch.maximum(high, -low) / last).clamp_min(smallest), 0.0
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = (high / last - low / last).clamp_min(smallest)  # high - low may overflow
        return scale, (-low / scale).round()

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range of ``x``, one per slice, shrunk for ``"mse"``."""
        axes = self._axes(x)
        low, high = x.amin(dim=axes, keepdim=True), x.amax(dim=axes, keepdim=True)
        if self.range == "minmax":
            return low, high
        first, last = self.ends()

        def quantize(shrinkage: float) -> Tensor:
            scale, zero = self._grid(low * shrinkage, high * shrinkage)
            return ((x / scale + zero).round().clamp_min(first).clamp_max(last) - zero) * scale

        factor = least_squares_shrinkage(x, axes, quantize)
        return low * factor, high * factor

    def _axes(self, x: Tensor) -> tuple[int, ...]:
        return reduced_axes(x, self.granularity, self.channel_dim)

    def grouped(self, x: Tensor) -> Tensor:
        """Return ``x``, its groups along a last axis where ranges are per group."""
        return split_groups(x, self.group_size, self.channel_dim)

    def _ungrouped(self, groups: Tensor, x: Tensor) -> Tensor:
        """Undo :meth:`grouped`: give ``groups`` the layout of ``x``."""
        return join_groups(groups, x, self.group_size, self.channel_dim)

    @torch.no_grad()
    def scale_and_zero(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the step and the zero point for ``x``, which a running range sees in training.

        Args:
            x: at least float32, as :meth:`grouped` returns it.
        """
        if self.binary:
            mean = x.abs().mean(dim=self._axes(x), keepdim=True)
            return mean.clamp_min(torch.finfo(x.dtype).tiny), 0.0
        if not self.running:
            return self._grid(*self._extremes(x))
        moves = self.training and not (self.resting and self._has_range())
        low, high = self._observe(x) if moves else (self.minimum, self.maximum)
        return self._grid(low.to(x.dtype), high.to(x.dtype))

    @torch.no_grad()
    def _observe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Let the running range see ``x``; return the range with which ``x`` is quantized."""
        low, high = (end.reshape(()).to(self.minimum.dtype) for end in self._extremes(x))
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            weight = torch.where(self.initialized > 0, self.momentum, torch.ones_like(low))
            return self.minimum.lerp(low, weight), self.maximum.lerp(high, weight)
        running = self.minimum, self.maximum
        ends = self.step_range.move((low, high), running, self.initialized, self.momentum)
        self._ready = True
        return ends

    def initialize(self, x: Tensor) -> None:
        """Set the activations' running range from ``x``; weights need none."""
        if self.running:
            self.initialized.fill_(False)
            self.step_range.forget()
            self._observe(widen(x.detach()))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the data: the next training batch sets the running range."""
        super().reset_parameters()
        if self.running:
            for buffer in (self.minimum, self.maximum, self.initialized):
                buffer.zero_()
            self.step_range.forget()
            self._ready = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if self.running:
            self.step_range._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)

    def restore_transient(self) -> None:
        """Forget the present optimizer step."""
        if self.running:
            vars(self)["step_range"] = StepRange().to(self.minimum.device)

    def ready(self) -> bool:
        """Return whether there is a range: data was seen, or is about to be."""
        return self._has_range() or self.training

    def _has_range(self) -> bool:
        if not self._ready and not torch.compiler.is_compiling():
            self._ready = not self.initialized.is_meta and bool(self.initialized)
        return self._ready

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values; inputs pass in float before any data was seen."""
        if not self.ready():
            warn_of_no_data(self)
            return x
        return super().forward(x)

    def check(self, operand: str) -> None:
        """Raise unless the quantizer can be deployed: a running range has seen data."""
        super().check(operand)
        if self.running and not bool(self.initialized):
            raise no_data(operand)
        if self.running and not bool((self.maximum - self.minimum).isfinite()):
            raise ConfigurationError(f"the range of its {operand} quantizer is NaN or infinite")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self.running:
            self.step_range.forget()
            self._ready = not self.initialized.is_meta and bool(self.initialized)

    def _noise(self, x: Tensor) -> Tensor | None:
        """Return the noise of stochastic rounding: none here."""
        return None

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest grid values in the shape and dtype of ``x``."""
        values = self.grouped(x)
        scale, zero = self.scale_and_zero(widen(values))
        if self.binary:
            y = (SF.sign(widen(values) / scale, self.rule) * scale).to(x.dtype)
        else:
            low, high = self.ends()
            y = SF.fake_quantize(values, scale, zero, low, high, self.rule, self._noise(values))
        return self._ungrouped(y, x)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the levels less the zero point, and the step."""
        values = widen(self.grouped(x))
        scale, zero = self.scale_and_zero(values)
        if self.binary:
            levels = SF.hard_sign(values)
        else:
            low, high = self.ends()
            levels = (values / scale + zero).round().clamp_min(low).clamp_max(high) - zero
        return self._ungrouped(levels, x).int(), joined_scale(
            scale, x, self.group_size, self.channel_dim
        )

    def extra_repr(self) -> str:
        """Return bits, symmetry, granularity and range."""
        kind = "symmetric" if self.symmetric else "affine"
        group = "" if self.group_size is None else f"({self.group_size})"
        return (
            f"bits={float(self.bits):g}, {kind}, {self.granularity}{group}, {self.range}, "
            f"{super().extra_repr()}"
        )
