"""What a checkpoint says that its layers were, and whether a model's layers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ste_lightning.convert import Policy
from ste_lightning.convert.another_policy import specification_by
from ste_lightning.convert.structure import clean_name, quantizable_layers
from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers.identity import METADATA
from ste_lightning.quantizers import describe, differences

__all__ = ["recorded_layers", "refuse_another_checkpoint"]


def refuse_another_checkpoint(state: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint whose layers had other quantizers than the model's have.

    Args:
        state: what ``QuantizationAwareTraining`` kept in the checkpoint; of earlier versions too,
            which kept names and rules alone, beside the policy.
        model: the model that is to go on.

    Raises:
        ConfigurationError: with the differences, layer by layer.
    """
    layers = dict(named_quantized_layers(model))
    saved: dict[str, Any] = dict(state["layers"])
    found = []
    earlier = any(isinstance(spec, (list, tuple)) for spec in saved.values())
    if earlier:
        layers = {name: layers[name] for name in quantizable_layers(model) if name in layers}
    for name in sorted(saved.keys() | layers.keys()):
        layer, there = layers.get(name), saved.get(name)
        here: Any = None if layer is None else layer.specification()
        if earlier and layer is not None and there is not None:
            kinds = [describe(layer.weight_quantizer), describe(layer.input_quantizer)]
            same = kinds == list(there)
            there = _by_policy(state["policy"], name, layer) if same else dict(zip(
                ("weight", "input"), there, strict=True
            ))  # fmt: skip
            here = here if same else dict(zip(("weight", "input"), kinds, strict=True))
            if there is None:
                continue
        different = differences(there, here)
        if different:
            found.append(f"layer {name!r}: {', '.join(d.lstrip(': ') for d in different)}")
    if found:
        raise ConfigurationError(
            f"the checkpoint is of another policy: {'; '.join(found)}. Use the checkpoint's "
            f"policy, {state['policy']}."
        )


def _by_policy(policy: Any, name: str, layer: Any) -> dict[str, Any] | None:
    """Return what a policy makes of a layer; ``None`` where it cannot be known."""
    try:
        parsed = Policy.parse(policy)
    except ConfigurationError:  # it held modules
        return None
    rule = parsed.rule_for(name, layer.float_class, False)
    return None if rule is None else specification_by(rule, layer)


def recorded_layers(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the specifications of a checkpoint's quantized layers, empty if it has none.

    They stand beside the tensors, in the metadata of the state dict.
    """
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", {})
    found = {
        clean_name(name): dict(entry[METADATA])
        for name, entry in metadata.items()
        if isinstance(entry, Mapping) and METADATA in entry
    }
    return {  # without parts of other layers: their owner makes them
        name: spec for name, spec in found.items() if not _has_owner(name, found)
    }


def _has_owner(name: str, found: Mapping[str, Any]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:n]) in found for n in range(1, len(parts)))
