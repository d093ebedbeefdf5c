"""Training that starts from the weights of another one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.checkpoint import read_checkpoint

__all__ = ["start_from"]

_QUANTIZER = "_quantizer."


def start_from(model: nn.Module, path: str) -> None:
    """Load the weights of a checkpoint; quantizers start anew, from these weights and new data.

    Tensors are matched by name. Where a float twin has other names, as a sequence with a ReLU at
    the place of a quantizer, they are matched by their order, if all have the same shapes.

    Args:
        model: as it will be trained.
        path: a checkpoint of Lightning, or a state dict.

    Raises:
        ConfigurationError: for a file that cannot be read, and for tensors that do not match.
    """
    require(Path(path).is_file(), "init_from", path, "there is no such checkpoint")
    content = read_checkpoint(path)
    given = _weights(content.get("state_dict", content))
    own = _weights(model.state_dict())
    by_name = all(key in given and given[key].shape == own[key].shape for key in own)
    in_order = [t.shape for t in given.values()] == [t.shape for t in own.values()]
    if not by_name and not in_order:
        key = next(k for k in own if k not in given or given[k].shape != own[k].shape)
        has = tuple(given[key].shape) if key in given else "nothing"
        raise ConfigurationError(
            f"init_from={path!r} cannot be used: {key} has shape {tuple(own[key].shape)}, the "
            f"checkpoint has {has}. Name a checkpoint of the same network in float."
        )
    if not by_name:
        given = dict(zip(own, given.values(), strict=True))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the state dict of layer")  # as said above
        model.load_state_dict({key: given[key] for key in own}, strict=False)


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and _QUANTIZER not in key
    }
