"""Packed layers: quantized weights as bits, products by the packed kernels, eval only."""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning import kernels
from ste_lightning.deploy.anywhere import Placed, computed, place
from ste_lightning.deploy.bits import packed_size, to_codes
from ste_lightning.deploy.inputs import BinaryInput, FloatInput, Input, LevelsInput, TokenInput
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.kernels import Codes, Geometry, Prepared

__all__ = ["PackedConv", "PackedLayer", "PackedLinear"]

_lock = threading.Lock()


class PackedLayer(nn.Module):
    """What packed linear layers and convolutions share.

    The integer product of the input's levels with the weights' levels is exact; it is multiplied
    with ``scale`` (the weights' scale times the input's) and ``bias`` is added, per output.

    Args:
        input: how the input is quantized.
        weight: what the weight codes stand for.
        shape: the weight's shape, outputs first.
        groups: number of groups.
        scaled: whether there is a scale per output (otherwise 1).
        bias: whether there is a bias.
        integers: whether to return the integer sums, whatever an input level is worth.
    """

    has_rows: ClassVar[bool] = True  # an output is a row of the input times one of the weights
    weight_bits: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        input: Input,
        weight: Codes,
        shape: tuple[int, ...],
        groups: int = 1,
        scaled: bool = False,
        bias: bool = False,
        integers: bool = False,
    ) -> None:
        super().__init__()
        self.integers = integers
        self.input = input
        self.weight_codes = weight
        self.shape = tuple(shape)
        self.groups = groups
        require(min(self.shape) > 0, "shape", self.shape, "use positive integers")
        require(
            groups > 0 and self.shape[0] % groups == 0,
            "groups",
            groups,
            f"it must divide the {self.shape[0]} outputs",
        )
        factor = getattr(input, "factor", None)
        if factor is not None and len(self.shape) > 1:
            channels = self.shape[1] * groups
            allowed = {channels} if isinstance(input, BinaryInput) else {1, channels}
            require(factor.numel() in allowed, "channels", factor.numel(), f"there are {channels}")
        count = torch.Size(self.shape).numel()
        packed = torch.zeros(packed_size(count, weight.bits), dtype=torch.uint8)
        self.register_buffer("weight_bits", packed)
        self.register_buffer("scale", torch.ones(self.shape[0]) if scaled else None)
        self.register_buffer("bias", torch.zeros(self.shape[0]) if bias else None)
        self.forget()
        self.eval()

    def train(self, mode: bool = True) -> Any:
        """Refuse training mode: the latent weights are gone.

        Raises:
            ConfigurationError: for ``mode=True``.
        """
        require(not mode, "mode", mode, "a packed layer is for evaluation; train the original")
        return super().train(mode)

    def integer_weight(self) -> Tensor:
        """Return the weights' integer levels, as int16 in the layer's weight shape."""
        codes = to_codes(self.weight_bits, self.weight_codes.bits, self.shape).short()
        return codes * self.weight_codes.step + self.weight_codes.offset

    def input_scale(self) -> float:
        """Return what one level of the input is worth in the results."""
        return 1.0 if self.integers else float(getattr(self.input, "scale", 1.0))

    def emit_integers(self, signs: Tensor | None = None) -> None:
        """Return the integer sums from now on, without scale and bias.

        Args:
            signs: -1 or +1 per output, by which the sums are multiplied.
        """
        self.scale, self.bias = signs, None
        self.integers = True
        self.forget()

    def float_weight(self) -> Tensor:
        """Return the weights that the product of dequantized inputs needs, float32."""
        weight = self.integer_weight().float()
        if self.scale is None:
            return weight
        return weight * self.scale.view(-1, *[1] * (weight.dim() - 1))

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return the quantized input in floats, as the trained layer sees it."""
        return self.input.values(x, self.channel_axis(x), self.integers)

    def channel_axis(self, x: Tensor) -> int:
        """Return the axis of the input channels."""
        return x.dim() - 1

    def forget(self) -> None:
        """Lay the weights out anew at the next call; needed after changing a buffer."""
        self._prepared: Prepared | None = None
        self._placed: Placed | None = None
        self.state = object()  # another one after every change

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.forget()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the laid-out weights, which depend on the machine."""
        return {**self.__dict__, "_prepared": None, "_placed": None, "state": object()}

    def prepared(self) -> Prepared:
        """Return the weights laid out for this machine's kernel; made once, by one thread."""
        if self._prepared is None:
            with _lock:
                if self._prepared is None:
                    self._prepared = self._prepare()
        return self._prepared

    def placed(self) -> Placed:
        """Return what a call without those kernels needs; made once, by one thread."""
        if self._placed is None:
            with _lock:
                if self._placed is None:
                    self._placed = place(self)
        return self._placed

    def result_scale(self) -> Tensor | None:
        """Return the factor of each output's integer sum, ``None`` for 1."""
        if self.input_scale() == 1.0:
            return self.scale
        scale = self.scale
        if scale is None:
            scale = torch.ones(self.shape[0], device=self.weight_bits.device)
        return scale * self.input_scale()

    def largest_sum(self) -> float:
        """Return a bound on the size of the integer sums.

        Raises:
            ConfigurationError: for a float input.
        """
        require(self.input.codes is not None, "input", self.input.kind, "its sums are no integers")
        assert self.input.codes is not None
        pad = abs(self.pad_level() or 0.0)
        largest = [
            max(abs(c.offset), abs(c.offset + c.step * (2**c.bits - 1)))
            for c in (self.input.codes, self.weight_codes)
        ]
        return float(torch.Size(self.shape[1:]).numel() * max(largest[0], pad) * largest[1])

    @abstractmethod
    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return the layer's product of floats, ``x`` padded with ``pad``, by torch."""

    def _prepare(self) -> Prepared:
        codes = to_codes(self.weight_bits, self.weight_codes.bits, self.shape)
        return self.prepare(
            codes.flatten(2).movedim(1, 2) if codes.dim() > 2 else codes.unsqueeze(1)
        )

    def prepare(self, codes: Tensor) -> Prepared:
        """Lay out weight codes (outputs, taps, channels) with this layer's scales and padding."""
        assert self.input.codes is not None
        return kernels.prepare(
            codes,
            self.input.codes,
            self.weight_codes,
            groups=self.groups,
            scale=self.result_scale(),
            shift=None if isinstance(self.input, TokenInput) else self.bias,
            pad_value=self.pad_level(),
            format=self.best_format(),
        )

    def best_format(self) -> str:
        """Return the format of the kernels for this layer; that of its input must have codes."""
        assert self.input.codes is not None
        outputs = self.shape[0] // self.groups
        return kernels.best_format(
            self.input.codes, self.weight_codes, self.groups, self.shape[1], outputs
        )

    def pad_level(self) -> float | None:
        """Return what pads the input, in input levels."""
        return None

    def _by_kernel(self, x: Tensor) -> bool:
        """Return whether the compiled kernels (or their torch form) take this input."""
        if x.device != self.weight_bits.device:
            raise ConfigurationError(
                f"input on {x.device} cannot be used: the layer is on {self.weight_bits.device}; "
                "move one of them with .to(device)."
            )
        return x.device.type == "cpu" and not isinstance(self.input, FloatInput)

    def _operand(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what the kernels take: floats with thresholds, or codes."""
        if isinstance(self.input, BinaryInput):
            if x.dtype == torch.float32:
                return x.detach(), self.input.factor, self.input.offset
            return self.input.encode(x, self.channel_axis(x)), None, None
        assert isinstance(self.input, LevelsInput)
        return self.input.encode(x, self.channel_axis(x)), None, None


def _input_channels(x: Tensor, axis: int, channels: int) -> None:
    if x.shape[axis] != channels:
        raise ConfigurationError(
            f"input of shape {tuple(x.shape)} cannot be used: axis {axis} must have {channels} "
            "channels."
        )


class PackedLinear(PackedLayer):
    """y = scale (q(x) W^T) + bias with packed integer weights W, (*, in) -> (*, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, in the dtype of ``x``."""
        outputs, inputs = self.shape
        _input_channels(x, -1, inputs)
        if not self._by_kernel(x):
            return computed(self, x)
        rows = x.detach().reshape(-1, inputs)
        if isinstance(self.input, TokenInput):
            codes, scale = self.input.encode_tokens(rows.float())
            y = kernels.linear(codes, self.prepared()) * scale
            if self.bias is not None:
                y += self.bias
        else:
            operand, factor, offset = self._operand(rows)
            y = kernels.linear(operand, self.prepared(), factor, offset)
        return y.view(*x.shape[:-1], outputs).to(x.dtype)

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return x W^T + b."""
        return F.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Return sizes and bits."""
        return f"{self.shape[1]}, {self.shape[0]}, weight_bits={self.weight_codes.bits}"


class PackedConv(PackedLayer):
    """y = scale conv(q(x), W) + bias with packed integer weights, in one to three dimensions.

    Args:
        input, weight, shape, groups, scaled, bias, integers: as in :class:`PackedLayer`.
        geometry: kernel, stride, padding and dilation.
        pad_value: what pads the quantized input.
        padding_mode: ``"zeros"``, or how the input's own values pad it (as in torch).
    """

    def __init__(
        self,
        input: Input,
        weight: Codes,
        shape: tuple[int, ...],
        geometry: Geometry,
        groups: int = 1,
        scaled: bool = False,
        bias: bool = False,
        integers: bool = False,
        pad_value: float = 0.0,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(input, weight, shape, groups, scaled, bias, integers)
        require(
            tuple(shape[2:]) == geometry.kernel and 3 <= len(shape) <= 5,
            "shape",
            tuple(shape),
            f"it does not fit the kernel {geometry.kernel}",
        )
        self.geometry = geometry
        self.pad_value = float(pad_value)
        self.padding_mode = padding_mode

    def channel_axis(self, x: Tensor) -> int:
        """Return the axis of the input channels."""
        return x.dim() - len(self.geometry.kernel) - 1

    def pad_level(self) -> float:
        """Return what pads the input, in input levels."""
        return self.pad_value / float(getattr(self.input, "scale", 1.0))

    def pads(self) -> list[int]:
        """Return the padding as torch's pad takes it, the last dimension first."""
        return [p for pair in reversed(self.geometry.padding) for p in pair]

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution, in the dtype of ``x``; its channels are stored last."""
        dims = len(self.geometry.kernel)
        if x.dim() == dims + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        require(x.dim() == dims + 2, "input", tuple(x.shape), f"use {dims + 2} dimensions")
        _input_channels(x, 1, self.shape[1] * self.groups)
        if not self._by_kernel(x) or isinstance(self.input, TokenInput):
            return computed(self, x)
        geometry = self.geometry
        if self.padding_mode != "zeros":
            x = F.pad(x, self.pads(), mode=self.padding_mode)
            geometry = replace(geometry, padding=((0, 0),) * dims)
        operand, factor, offset = self._operand(x)
        y = kernels.convolve(operand, self.prepared(), geometry, factor, offset)
        return y.to(x.dtype)

    def padded(self, x: Tensor, value: float) -> Tensor:
        """Return the padded input; ``value`` where the input itself gives none."""
        if self.padding_mode != "zeros":
            return F.pad(x, self.pads(), mode=self.padding_mode)
        return F.pad(x, self.pads(), value=value)

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return the convolution of the padded input."""
        geometry = self.geometry
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(geometry.kernel) - 1]
        y: Tensor = convolve(
            self.padded(x, pad), weight, bias, geometry.stride, 0, geometry.dilation, self.groups
        )
        return y

    def extra_repr(self) -> str:
        """Return sizes and bits."""
        inputs = self.shape[1] * self.groups
        return (
            f"{inputs}, {self.shape[0]}, kernel={self.geometry.kernel}, "
            f"weight_bits={self.weight_codes.bits}"
        )
