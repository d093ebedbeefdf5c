"""A policy against the network that it is given: rules that match nothing, other quantizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ste_lightning.convert.policy import Policy, Rule
from ste_lightning.convert.report import LayerReport
from ste_lightning.convert.structure import float_class
from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.layers import QuantizedLayer
from ste_lightning.quantizers import build, differences, specification

__all__ = ["check_reach", "refuse_another_policy", "specification_by"]


def check_reach(
    policy: Policy, layers: Mapping[str, nn.Module], staying: Sequence[LayerReport]
) -> None:
    """Refuse rules that match no layer: a mistyped rule must not pass silently.

    Args:
        policy: the rules.
        layers: the quantizable layers by name.
        staying: the other layers with weights, which a rule without quantizers may name.

    Raises:
        ConfigurationError: with the rule, the nearest match and what there is.
    """
    classes = {name: float_class(layer) or type(layer) for name, layer in layers.items()}
    for rule in policy.rules:
        if any(rule.matches(name, cls) for name, cls in classes.items()):
            continue
        idle = rule.weight is None and rule.input is None
        if idle and any(_matches_row(rule, row) for row in staying):
            continue
        match = rule.match if isinstance(rule.match, str) else f"type:{rule.match.__name__}"
        if not classes:
            return  # the error about a network without quantizable layers says more
        if match.startswith("type:"):
            kinds = {f"type:{cls.__name__}" for cls in classes.values()}
            raise unknown("layer type of a policy rule:", match, kinds)
        if any(_matches_row(rule, row) for row in staying):
            row = next(row for row in staying if _matches_row(rule, row))
            raise ConfigurationError(
                f"match={match!r} cannot be used: {row.name!r} stays float ({row.reason})."
            )
        raise unknown("layer", match, layers)


def _matches_row(rule: Rule, row: LayerReport) -> bool:
    if isinstance(rule.match, str) and rule.match.startswith("type:"):
        return rule.match[5:] == row.kind
    return isinstance(rule.match, str) and rule.matches(row.name, nn.Module)


def refuse_another_policy(policy: Policy, layers: Mapping[str, nn.Module]) -> None:
    """Refuse layers that another policy has quantized: neither of the two would be the truth.

    Layers that the model made itself may differ, unless a rule gives their exact name.

    Args:
        policy: the rules.
        layers: the quantizable layers by name.

    Raises:
        ConfigurationError: with the differences, layer by layer.
    """
    found = []
    for name, layer in layers.items():
        if not isinstance(layer, QuantizedLayer):
            continue
        rule = policy.rule_for(name, layer.float_class, False)
        named = rule is not None and rule.names_exactly(name)
        if layer.converted is None and not named:
            continue
        words = ("in the model", "in the policy")
        different = differences(layer.specification(), specification_by(rule, layer), "", words)
        if different:
            found.append(f"layer {name!r}: {', '.join(different)}")
    if found:
        raise ConfigurationError(
            f"policy={policy.plain()} cannot be used: the model is quantized already by another "
            f"one: {'; '.join(found)}. Call ste_lightning.convert.dequantize_(model) first (it "
            "drops learned scales), or use the policy that it was quantized by."
        )


def specification_by(rule: Rule | None, layer: QuantizedLayer) -> dict[str, Any]:
    """Return the specification that the rule would give to the layer."""
    spec: dict[str, Any] = dict.fromkeys(layer.specification())
    if "pad_value" in spec:
        zeros = getattr(layer, "padding_mode", "zeros") == "zeros"
        spec["pad_value"] = float(rule.pad_value) if rule is not None and zeros else 0.0
    if rule is None:
        return spec
    spec["weight"] = specification(build(rule.weight, "weights", layer.channel_dim))
    if not isinstance(layer, nn.Embedding):
        spec["input"] = specification(build(rule.input, "activations"))
    if "score" in spec:
        spec["score"] = specification(build(rule.score, "activations"))
    if rule.relu != "hardtanh" or "relu" in spec:
        spec["relu"] = rule.relu
    return spec
