"""Which rule of a policy reaches which layer of one network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ste_lightning.convert.policy import Policy, Rule
from ste_lightning.convert.set_apart import frozen_layers, set_apart, tied_layers
from ste_lightning.convert.structure import float_class

__all__ = ["Reach"]


class Reach:
    """Decides for each layer: the edges and the layers set apart need a rule of their own.

    Args:
        policy: the rules.
        layers: the quantizable layers in the order in which they run.
        reach_frozen: whether frozen layers count as trained ones.

    Attributes:
        apart: the layers that no wildcard reaches, and why; without the edges.
        edges: the first and the last layer that wildcards could reach otherwise.
    """

    def __init__(
        self, policy: Policy, layers: Mapping[str, nn.Module], reach_frozen: bool = False
    ) -> None:
        self.policy, self.layers = policy, layers
        self.tied = tied_layers(layers)
        self.apart = set_apart(layers)
        self.edges = self._edges()
        frozen = {} if reach_frozen else frozen_layers(layers)
        if frozen:
            without = {**self.apart, **frozen}
            with_frozen, self.apart = self.apart, without
            self.edges = self._edges()
            # where nothing else is there or reached, the frozen layers are what the policy means
            alone = without.keys() | self.tied.keys() >= layers.keys()
            if alone or not any(self._quantizes(name) for name in layers):
                self.apart = with_frozen
                self.edges = self._edges()
        self.apart = {**self.tied, **self.apart}

    def _edges(self) -> dict[str, str]:
        inner = [name for name in self.layers if name not in self.apart]
        return {inner[0]: "first", inner[-1]: "last"} if inner else {}

    def _quantizes(self, name: str) -> bool:
        rule, _ = self.rule_for(name, _class_of(self.layers[name]))
        return rule is not None and (rule.weight is not None or rule.input is not None)

    def rule_for(self, name: str, cls: type[nn.Module]) -> tuple[Rule | None, str]:
        """Return the rule that decides about a layer, or ``None`` and why.

        Args:
            name: the layer's name.
            cls: its float class.
        """
        edge = self.edges.get(name)
        apart = self.apart.get(name) or self.tied.get(name)
        rule = self.policy.rule_for(
            name, cls, edge is not None, lambda rule: apart is None or self._means(rule)
        )
        if rule is not None:
            return rule, ""
        if edge:
            return None, f"the {edge} layer: only its exact name reaches it"
        if apart and self.policy.rule_for(name, cls, False) is not None:
            return None, f"{apart}: only a rule of its own reaches it"
        return None, "no rule matches"

    def _means(self, rule: Rule) -> bool:
        """Return whether a rule names layers set apart, and no others."""
        if not isinstance(rule.match, str) or rule.match.startswith("type:"):
            return False
        apart = self.apart.keys() | self.tied.keys()
        return all(
            name in apart
            for name, layer in self.layers.items()
            if rule.matches(name, _class_of(layer))
        )


def _class_of(layer: nn.Module) -> type[nn.Module]:
    return float_class(layer) or type(layer)
