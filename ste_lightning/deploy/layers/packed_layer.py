"""What packed layers share: quantized weights as bits, laid out for a kernel, eval only."""

from __future__ import annotations

import copy
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ste_lightning import kernels
from ste_lightning.deploy.layers.bit_planes import packed_size, to_codes
from ste_lightning.deploy.layers.input_quantizers import (
    BinaryInput,
    Input,
    LevelsInput,
    TokenInput,
)
from ste_lightning.deploy.layers.latent_weight import LatentWeight
from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.kernels import Codes, Prepared

__all__ = ["PackedLayer", "fits_signed", "packed_layers", "scaled_weight"]

_lock = threading.Lock()


def scaled_weight(levels: Tensor, scale: Tensor) -> Tensor:
    """Return float levels, outputs first, times their scales: (outputs,) or (outputs, groups)."""
    groups = levels.reshape(len(levels), scale[0].numel(), -1)
    return (groups * scale.view(len(levels), -1, 1)).view(levels.shape)


def fits_signed(levels: Tensor, bits: int) -> bool:
    """Return whether signed integers of so many bits hold all levels."""
    most = 1 << (bits - 1)
    return -most <= int(levels.min()) and int(levels.max()) < most


class PackedLayer(Opaque):
    """What packed linear layers and convolutions share.

    The integer product of the input's levels with the weights' levels is exact; it is multiplied
    with ``scale`` (the weights' scale times the input's) and ``bias`` is added, per output. Weights
    with several scales per output are multiplied group by group in linear layers
    (:mod:`.scale_groups`), as floats in others.

    Args:
        input: how the input is quantized.
        weight: what the weight codes stand for.
        shape: the weight's shape, outputs first.
        groups: number of groups.
        scaled: how many scales an output has: none (its weights are integers), one, or one for
            each of so many equal, contiguous groups of its weights.
        bias: whether there is a bias.
        integers: whether to return the integer sums, whatever an input level is worth.
    """

    name: str = ""  # in the trained model
    sums_integers: bool  # times one scale per output
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
        scaled: int = False,
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
        inputs = count // self.shape[0]
        require(
            scaled <= 1 or inputs % scaled == 0,
            "scaled",
            scaled,
            f"it must divide the {inputs} weights of an output",
        )
        self.scales = int(scaled)
        self.sums_integers = input.codes is not None and scaled <= 1
        packed = torch.zeros(packed_size(count, weight.bits), dtype=torch.uint8)
        self.register_buffer("weight_bits", packed)
        scales = (self.shape[0], scaled) if scaled > 1 else (self.shape[0],)
        self.register_buffer("scale", torch.ones(scales) if scaled else None)
        self.register_buffer("bias", torch.zeros(self.shape[0]) if bias else None)
        self.forget()
        self.eval()

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
        return scaled_weight(weight, self.scale)

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return the quantized input in floats, as the trained layer sees it."""
        return self.input.values(x, self.channel_axis(x), self.integers)

    def check_channels(self, x: Tensor, axis: int) -> None:
        """Refuse an input with another number of channels on an axis."""
        channels = self.shape[1] * self.groups
        if x.shape[axis] != channels:
            raise ConfigurationError(
                f"input of shape {tuple(x.shape)} cannot be used: axis {axis} must have {channels} "
                "channels."
            )

    def channel_axis(self, x: Tensor) -> int:
        """Return the axis of the input channels."""
        return x.dim() - 1

    def forget(self) -> None:
        """Lay the weights out anew at the next call; needed after changing a buffer."""
        self._derived: dict[str, Any] = {}
        self.state = object()  # another one after every change

    @property
    def weight(self) -> LatentWeight:
        """Shape and type of the torch layer's weights, without values."""
        return LatentWeight(self.name, self.torch_shape(), self.weight_bits.device)

    def torch_shape(self) -> tuple[int, ...]:
        """Return the shape of the torch layer's weights."""
        return self.shape

    def twin(self) -> Any:
        """Return a copy that shares all tensors and whose quantizer may be replaced."""
        other = copy.copy(self)
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        return other

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.forget()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the laid-out weights, which depend on the machine."""
        return {**self.__dict__, "_derived": {}, "state": object()}

    def derived(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` derives from the buffers; made once, by one thread."""
        found = self._derived.get(name)
        if found is None:
            with _lock:
                found = self._derived.get(name)
                if found is None:
                    found = self._derived[name] = make()
        return found

    def prepared(self) -> Prepared:
        """Return the weights laid out for this machine's kernel."""
        w: Prepared = self.derived("prepared", self._prepare)
        return w

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
        return x.device.type == "cpu" and self.sums_integers

    def _operand(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what the kernels take: floats with thresholds, or codes."""
        if isinstance(self.input, BinaryInput):
            if x.dtype == torch.float32:
                return x.detach(), self.input.factor, self.input.offset
            return self.input.encode(x, self.channel_axis(x)), None, None
        assert isinstance(self.input, LevelsInput)
        return self.input.encode(x, self.channel_axis(x)), None, None


def packed_layers(module: nn.Module) -> dict[str, PackedLayer]:
    """Return the packed layers of a network, or of a part of it, by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, PackedLayer)}
