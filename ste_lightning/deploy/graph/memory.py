"""How many numbers a step makes on its way: its parts' results, and what kernels make inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Made", "is_written_out", "recurrent"]


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the numbers that operators make inside this context; views make none.

    Operators that torch composes of others are seen as these: a Fourier transform pads its input,
    ``stft`` multiplies every frame by its window. A complex number is two.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call an operator and count what it makes."""
        result = func(*args, **(kwargs or {}))
        found = result if isinstance(result, (list, tuple)) else [result]
        name = func._schema.name.removeprefix("aten::")
        for value, returned in zip(found, func._schema.returns, strict=False):
            if returned.alias_info is None and name != "_unsafe_view":
                self.numbers += sum(map(_numbers, tree_leaves(value)))
        inside = _INSIDE.get(name)
        if inside is not None:
            self.numbers += inside(found[0], *args)
        return result


def is_written_out(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether an operator makes what it is composed of; attention to plain heads does not.

    Torch's kernel for these keeps a few rows of scores at a time.
    """
    if name != "scaled_dot_product_attention":
        return True
    query, key, value = args[:3]
    return query.dim() != 4 or not query.shape[-1] == key.shape[-1] == value.shape[-1]


def recurrent(x: Tensor, gates: int, cell: int) -> int:
    """Return the numbers of all gates at all times, which a recurrent layer makes at once."""
    return x.shape[0] * x.shape[1] * gates * cell


def _numbers(value: Any) -> int:
    return value.numel() * (2 if value.is_complex() else 1) if isinstance(value, Tensor) else 0


def _patches(
    result: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, *rest: Any,
) -> int:  # fmt: skip
    """Return the numbers of all patches, which a convolution writes out unless oneDNN does it."""
    if x.dtype is torch.float32 and not transposed:
        return 0
    across = x if transposed else result
    return across.shape[0] * math.prod(across.shape[2:]) * math.prod(weight.shape[1:])


def _points(result: Tensor, a: Tensor, b: Tensor, *rest: Any) -> int:
    """Return the numbers of two lists of points, copied for every pair of lists."""
    return math.prod(result.shape[:-2]) * sum(t.shape[-2] * (t.shape[-1] + 2) for t in (a, b))


def _scores(
    result: Tensor, query: Tensor, key: Tensor, value: Any, width: int, heads: int, *rest: Any
) -> int:
    return heads * query.shape[0] * query.shape[1] * key.shape[1] + 4 * query.numel()


def _one_axis_first(result: Tensor, x: Tensor, *rest: Any) -> int:
    """Return the numbers of images that are resized along one axis, then along the other."""
    images, (high, wide) = math.prod(result.shape[:-2]), result.shape[-2:]
    return images * max(x.shape[-2] * wide, high * x.shape[-1])


def _copies(result: Tensor, x: Tensor, *rest: Any) -> int:
    """Return the numbers of input and result once more, in another order."""
    return _numbers(x) + _numbers(result)


def _rows(result: Tensor, weight: Tensor, indices: Tensor, *rest: Any) -> int:
    return indices.numel() * weight.shape[-1]


_INSIDE: dict[str, Callable[..., int]] = {
    "convolution": _patches,
    "_cdist_forward": _points,
    "_native_multi_head_attention": _scores,
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), _one_axis_first),
    **dict.fromkeys(("_fft_c2c", "_fft_r2c", "_fft_c2r"), _copies),
    **dict.fromkeys(("sort", "topk", "kthvalue", "median"), _copies),
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), _rows),
}
