"""Networks from a specification that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hydra.utils
from torch import nn

from ste_lightning.errors import ConfigurationError, require

__all__ = ["build_network", "given_network"]


def given_network(network: nn.Module | Mapping[str, Any], plain: dict[str, Any]) -> nn.Module:
    """Return a network that is given as a module or as a specification.

    Args:
        network: as :class:`~ste_lightning.models.Classifier` takes it.
        plain: hyperparameters for the checkpoint, where a specification is added as ``network``.
    """
    if isinstance(network, nn.Module):
        return network
    plain["network"] = dict(network)
    return build_network(network)


def build_network(spec: Mapping[str, Any]) -> nn.Module:
    """Build a module from ``_target_`` and arguments.

    Raises:
        ConfigurationError: for a target that is no torch module, and for arguments it refuses.
    """
    require("_target_" in spec, "network", dict(spec), "name its class as _target_")
    _refuse_other_than_modules(spec)
    try:
        network = hydra.utils.instantiate(dict(spec), _convert_="all")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigurationError):
            raise cause from error
        raise ConfigurationError(f"network={dict(spec)} cannot be built: {cause}") from error
    require(
        isinstance(network, nn.Module),
        "network",
        dict(spec),
        "its _target_ must make a torch module",
    )
    built: nn.Module = network
    return built


def _refuse_other_than_modules(spec: Any) -> None:
    """Let a checkpoint's specification name torch modules only, not any callable.

    A checkpoint may come from anywhere, and ``_target_`` would be called with its arguments.
    """
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            try:
                target = hydra.utils.get_object(str(spec["_target_"]))
            except Exception as error:
                raise ConfigurationError(
                    f"network={dict(spec)} cannot be built: {error}"
                ) from error
            require(
                isinstance(target, type) and issubclass(target, nn.Module),
                "_target_",
                spec["_target_"],
                "name a torch module class, or pass network= as a module",
            )
        spec = list(spec.values())
    if isinstance(spec, (list, tuple)):
        for part in spec:
            _refuse_other_than_modules(part)
