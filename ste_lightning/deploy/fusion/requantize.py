"""What a packed layer's integer sums have to become for the layers that read them: codes.

Where the next layers' quantizers only compare the sums of a layer with thresholds, per channel,
a sum y becomes the code that they would make of it: the number of integers t with y >= t, or,
where it falls as y grows, with y < t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels.layout.int8_weights import fitting

__all__ = [
    "MOST_STEPS",
    "Emission",
    "emission_for",
    "gives_integers",
    "gives_whole_sums",
    "reads_codes",
]

MOST_STEPS = 31  # thresholds: more take longer to compare with, and more room, than they save
_NEVER = 1 << 30


@dataclass(frozen=True)
class Emission:
    """How sums become codes.

    Attributes:
        least: (count, outputs) int64, the thresholds of the sums.
        falling: (outputs,), whether the code falls as the sum grows.
        flips: (outputs,) uint8, 255 where it falls as the layer's result grows: there max pooling
            of results is min pooling of codes.
    """

    least: NDArray[np.int64]
    falling: NDArray[np.bool_]
    flips: NDArray[np.uint8]

    def same(self, other: Emission) -> bool:
        """Return whether another one makes the same codes."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)


def reads_codes(module: nn.Module) -> bool:
    """Return whether a module may be given its input's codes."""
    if type(module) not in (PackedConv, PackedLinear):
        return False
    assert isinstance(module, PackedLayer)
    known = isinstance(module.input, (BinaryInput, LevelsInput))
    padded = getattr(module, "padding_mode", "zeros") == "zeros"
    return (
        known
        and padded
        and module.sums_integers
        and module.weight_bits.device.type == "cpu"
        and _format(module) != "torch"
    )


def _format(module: PackedLayer) -> str:
    """Return the format in which the weights will be laid out."""
    assert module.input.codes is not None
    return fitting(module.best_format(), module.input.codes, module.weight_codes)


def gives_integers(module: nn.Module) -> bool:
    """Return whether a compiled kernel makes codes of a module's sums."""
    if not reads_codes(module) or not gives_whole_sums(module):
        return False
    assert isinstance(module, PackedLayer)
    return _format(module) != "depthwise"


def gives_whole_sums(module: nn.Module) -> bool:
    """Return whether a module's results are sums y of integers, or -y, that can become codes."""
    if type(module) not in (PackedConv, PackedLinear):
        return False
    assert isinstance(module, PackedLayer)
    if not module.sums_integers or module.bias is not None or module.input_scale() != 1.0:
        return False
    if module.scale is not None and not bool((module.scale.abs() == 1).all()):
        return False
    whole = float(module.pad_level() or 0.0).is_integer()
    return whole and module.input.kind != "token" and module.largest_sum() < _NEVER


def emission_for(before: PackedLayer, after: PackedLayer, flat: bool) -> Emission | None:
    """Return the codes of ``before``'s sums that ``after`` reads, ``None`` where there are none.

    Args:
        before: a layer that gives integers.
        after: one that reads codes, with at most max pooling in between, and flattening.
        flat: whether the result is flattened.
    """
    outputs, inputs = before.shape[0], after.shape[1] * after.groups
    dims = [len(layer.shape) - 2 for layer in (before, after)]
    fits = (
        (dims[1] == 0 < dims[0] and inputs % outputs == 0)
        if flat
        else (dims[0] == dims[1] and inputs == outputs)
    )
    found = _steps(after.input, outputs) if fits else None
    if found is None:
        return None
    least, falls = found
    turned = np.zeros(outputs, bool)
    if before.scale is not None:
        turned = before.scale.numpy() < 0
    # -y >= t is y < 1 - t, and -y < t is y >= 1 - t.
    least = np.where(turned, 1 - least, least)
    flips = np.where(falls, 255, 0).astype(np.uint8)
    return Emission(least, falls ^ turned, flips)


def _per_channel(values: Tensor, outputs: int) -> Tensor | None:
    """Return one row per channel of the layer before, or ``None`` where its pixels differ."""
    if len(values) == 1:
        return values.expand(outputs, *values.shape[1:])
    if len(values) % outputs:
        return None
    parts = values.view(outputs, -1, *values.shape[1:])
    return parts[:, 0] if bool((parts == parts[:, :1]).all()) else None


def _steps(quantizer: Any, outputs: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """Return the thresholds of integers x, and whether a channel's codes fall as x grows."""
    if isinstance(quantizer, LevelsInput):
        factor = _per_channel(quantizer.factor, outputs)
        table = _per_channel(quantizer.thresholds, outputs)
        if factor is None or table is None or table.shape[1] > MOST_STEPS:
            return None
        if not bool((factor.abs() == 1).all()):
            return None
        s, t = factor.double().numpy(), table.double().numpy().T
        # s x >= t; where s is -1, that is x < floor(-t) + 1.
        bound = np.where(s > 0, np.ceil(t), np.floor(-t) + 1)
        return np.clip(bound, -_NEVER, _NEVER).astype(np.int64), s < 0
    strict = quantizer.name == "step"
    s, b = np.ones(outputs), np.zeros(outputs)
    if quantizer.factor is not None and quantizer.offset is not None:
        factor, offset = (_per_channel(v, outputs) for v in (quantizer.factor, quantizer.offset))
        if factor is None or offset is None:
            return None
        s, b = factor.double().numpy(), offset.double().numpy()
        if not bool(((s == 0) | (abs(s) == 1)).all()):
            return None
    rising = np.floor(-b) + 1 if strict else np.ceil(-b)
    falling = np.ceil(b) if strict else np.floor(b) + 1
    constant = np.where(b > 0 if strict else b >= 0, -_NEVER, _NEVER)
    bound = np.select([s > 0, s < 0], [rising, falling], constant)
    return np.clip(bound, -_NEVER, _NEVER).astype(np.int64)[None], s < 0
