"""What stands for the latent weights of a packed layer, which are gone."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from ste_lightning.errors import ConfigurationError

__all__ = ["LatentWeight"]


class LatentWeight:
    """Shape, dtype and device of weights whose values are refused.

    A forward pass that reads the weights of a quantized layer itself computes with the latent
    ones, not with the quantized ones that the file keeps.

    Args:
        layer: the layer's name.
        shape: of the torch layer's weights.
        device: the layer's.
    """

    dtype = torch.float32
    requires_grad = False

    def __init__(self, layer: str, shape: tuple[int, ...], device: torch.device) -> None:
        self._layer = layer
        self.shape = torch.Size(shape)
        self.ndim = len(shape)
        self.device = device

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or one size of it."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of axes."""
        return self.ndim

    def numel(self) -> int:
        """Return the number of weights."""
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        """Return that weights are floats."""
        return True

    def __len__(self) -> int:
        return self.shape[0]

    def _refuse(self, *args: Any) -> NoReturn:
        layer = repr(self._layer) if self._layer else "a layer"
        raise ConfigurationError(
            f"the model reads the latent weights of {layer} outside of that layer's own call; a "
            "packed network has none. Leave that layer in float (null in the policy)."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __matmul__ = __neg__ = __pow__ = __getitem__ = __iter__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._refuse()

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse, as every function of torch would use the values."""
        for value in (*args, *(kwargs or {}).values()):
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, cls):
                    item._refuse()
        return NotImplemented
