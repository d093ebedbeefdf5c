"""Load a quantized model from a checkpoint without a trainer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import lightning as L

from ste_lightning.callbacks.recorded_layers import recorded_layers, refuse_another_checkpoint
from ste_lightning.callbacks.swap_at_setup import convert_module
from ste_lightning.convert import Policy
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.checkpoint import read_checkpoint

__all__ = ["load_quantized"]

M = TypeVar("M", bound=L.LightningModule)


def load_quantized(
    module_class: type[M],
    checkpoint_path: str | Path,
    policy: Any = None,
    **kwargs: Any,
) -> M:
    """Return the module of a checkpoint that was trained with quantized layers.

    ``module_class.load_from_checkpoint`` alone makes the float module with the latent weights
    (strictly so where the quantizers have no parameters of their own); this gives each layer the
    quantizers that the checkpoint records for it, and then loads all of it strictly.

    Args:
        module_class: the LightningModule's class.
        checkpoint_path: the checkpoint.
        policy: needed where the checkpoint records no layers (it is of an earlier version, or
            its quantizers are modules that are not registered); otherwise it must make the
            network that was trained.
        kwargs: as for ``load_from_checkpoint``: arguments of the class that are not in the
            checkpoint, ``map_location``, ``hparams_file``.

    Raises:
        ConfigurationError: if no policy is known, or it does not make what was trained.
    """
    checkpoint = read_checkpoint(checkpoint_path, kwargs.get("map_location"))
    if policy is None:
        policy = _recorded(checkpoint, checkpoint_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found keys that are")
        module = module_class.load_from_checkpoint(checkpoint_path, strict=False, **kwargs)
    state = conversion_state(checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*of the weights of layer .* are zero")
        convert_module(module, Policy.parse(policy), reach_frozen=True)
    try:
        if state is not None:
            refuse_another_checkpoint(state, module)
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, ConfigurationError) as error:
        raise ConfigurationError(
            f"policy={policy} cannot be used with {checkpoint_path}: {error}"
        ) from error
    return module


def conversion_state(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the callback kept in the checkpoint."""
    for key, state in checkpoint.get("callbacks", {}).items():
        if key.startswith("QuantizationAwareTraining"):
            return dict(state)
    return None


def _recorded(checkpoint: dict[str, Any], path: str | Path) -> Any:
    """Return a policy of exact names, or that of an earlier version's checkpoint."""
    layers = recorded_layers(checkpoint)
    if layers:
        rules = [{"match": name, **spec} for name, spec in layers.items()]
        unknown = sorted({str(m) for rule in rules for m in _modules(rule)})
        require(
            not unknown,
            "policy",
            ", ".join(unknown),
            "it held modules that are not registered quantizers; pass policy=...",
        )
        return rules
    state = conversion_state(checkpoint)
    if state is None:
        raise ConfigurationError(
            f"{path} records no policy: it was saved without quantized layers, or by an earlier "
            "version with save_weights_only=True. Pass policy=..."
        )
    require(
        not any(True for rule in state["policy"] for _ in _modules(rule)),
        "policy",
        state["policy"],
        "it held modules, which a checkpoint does not record; pass policy=...",
    )
    return state["policy"]


def _modules(rule: dict[str, Any]) -> Iterator[Any]:
    """Yield the classes of modules in the place of specifications."""
    for key in ("weight", "input", "score"):
        if isinstance(rule.get(key), dict) and "module" in rule[key]:
            yield rule[key]["module"]
