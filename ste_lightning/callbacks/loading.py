"""Load a quantized model from a checkpoint without a trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch

from ste_lightning.callbacks.swap_at_setup import convert_module
from ste_lightning.convert import Policy
from ste_lightning.errors import ConfigurationError, require

__all__ = ["load_quantized"]

M = TypeVar("M", bound=L.LightningModule)


def load_quantized(
    module_class: type[M],
    checkpoint_path: str | Path,
    policy: Any = None,
    **kwargs: Any,
) -> M:
    """Return the module of a checkpoint that ``QuantizationAwareTraining`` trained.

    ``module_class.load_from_checkpoint`` alone makes the float module with the latent weights
    (strictly so where the quantizers have no parameters of their own); this converts it by the
    policy that the checkpoint records and then loads all of it strictly.

    Args:
        module_class: the LightningModule's class.
        checkpoint_path: the checkpoint.
        policy: needed where the checkpoint records none (``save_weights_only=True``) or the
            policy held modules instead of specifications.
        kwargs: as for ``load_from_checkpoint``: arguments of the class that are not in the
            checkpoint, ``map_location``, ``hparams_file``.

    Raises:
        ConfigurationError: if no policy is known, or it does not fit the checkpoint.
    """
    checkpoint = torch.load(
        checkpoint_path, map_location=kwargs.get("map_location"), weights_only=True
    )
    if policy is None:
        policy = _recorded(checkpoint, checkpoint_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found keys that are")
        module = module_class.load_from_checkpoint(checkpoint_path, strict=False, **kwargs)
    convert_module(module, Policy.parse(policy))
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ConfigurationError(
            f"policy={policy} cannot be used with {checkpoint_path}: {error}"
        ) from error
    return module


def _recorded(checkpoint: dict[str, Any], path: str | Path) -> Any:
    for key, state in checkpoint.get("callbacks", {}).items():
        if key.startswith("QuantizationAwareTraining"):
            policy = state["policy"]
            specs = [rule.get(key) for rule in policy for key in ("weight", "input", "score")]
            require(
                not any(isinstance(spec, dict) and "module" in spec for spec in specs),
                "policy",
                policy,
                "it held modules, which a checkpoint does not record; pass policy=...",
            )
            return policy
    raise ConfigurationError(
        f"{path} records no policy: it was saved with save_weights_only=True or without the "
        "callback. Pass policy=..."
    )
