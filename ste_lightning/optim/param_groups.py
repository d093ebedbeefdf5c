"""Parameter groups: latent weights, quantizers' own parameters, and the rest."""

from __future__ import annotations

from typing import Any

from torch import nn

from ste_lightning.errors import require
from ste_lightning.layers import RSign
from ste_lightning.metrics.latents import latents
from ste_lightning.quantizers import Quantizer

__all__ = ["quantizer_param_groups"]


def quantizer_param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    latent_lr: float | None = None,
    latent_weight_decay: float = 0.0,
    quantizer_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Sort a model's trainable parameters into groups for an optimizer.

    - ``latent``: the weights of layers with a weight quantizer. Decay pulls them towards the
      decision threshold and makes them flip, so it is off by default.
    - ``quantizer``: learned scales and thresholds, never decayed, with a smaller step.
    - ``decay``: other parameters with two or more dimensions.
    - ``no_decay``: biases, norms and other vectors, never decayed.

    Args:
        model: any model; its quantized layers must be in place already.
        lr: the learning rate of the last two groups.
        weight_decay: of the group ``decay``; default 0.
        latent_lr: default ``lr``.
        latent_weight_decay: default 0.
        quantizer_lr: default ``lr / 10``, as in N2UQ (arXiv 2111.14826).

    Returns:
        The groups that are not empty, each with ``name``, ``params``, ``lr`` and
        ``weight_decay``: ``torch.optim.AdamW(quantizer_param_groups(model, 1e-3))``.

    Raises:
        ConfigurationError: for a rate or decay out of range, or a model without parameters.
    """
    rates = {"lr": lr, "latent_lr": latent_lr, "quantizer_lr": quantizer_lr}
    for name, rate in rates.items():
        require(rate is None or rate >= 0, name, rate, "use 0 or a positive number")
    for name, decay in {
        "weight_decay": weight_decay,
        "latent_weight_decay": latent_weight_decay,
    }.items():
        require(decay >= 0, name, decay, "use 0 or a positive number")

    latent = {id(found.weight) for found in latents(model)}
    quantizers = _quantizer_parameters(model)
    groups: dict[str, list[nn.Parameter]] = {
        name: [] for name in ("latent", "quantizer", "decay", "no_decay")
    }
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in latent:
            groups["latent"].append(parameter)
        elif id(parameter) in quantizers:
            groups["quantizer"].append(parameter)
        else:
            groups["decay" if parameter.dim() > 1 else "no_decay"].append(parameter)
    require(any(groups.values()), "model", type(model).__name__, "it has no trainable parameter")
    settings = {
        "latent": (lr if latent_lr is None else latent_lr, latent_weight_decay),
        "quantizer": (lr / 10 if quantizer_lr is None else quantizer_lr, 0.0),
        "decay": (lr, weight_decay),
        "no_decay": (lr, 0.0),
    }
    return [
        {"name": name, "params": params, "lr": settings[name][0], "weight_decay": settings[name][1]}
        for name, params in groups.items()
        if params
    ]


def _quantizer_parameters(model: nn.Module) -> set[int]:
    """Return the ids of all parameters that belong to a quantizer, whatever its class."""
    attributes = ("weight_quantizer", "input_quantizer", "score_quantizer")
    modules: list[nn.Module] = [m for m in model.modules() if isinstance(m, (Quantizer, RSign))]
    for layer in model.modules():
        attached = (getattr(layer, name, None) for name in attributes)
        modules += [quantizer for quantizer in attached if isinstance(quantizer, nn.Module)]
    return {id(parameter) for module in modules for parameter in module.parameters()}
