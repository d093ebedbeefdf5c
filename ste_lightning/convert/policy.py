"""Which layer gets which quantizers: ordered rules on names and types."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.html import html_table
from ste_lightning.quantizers import QuantizerSpec, build

__all__ = ["RELU_CHOICES", "Policy", "Rule"]

RELU_CHOICES = ("hardtanh", "rprelu", "identity")
_KEYS = ("match", "weight", "input", "relu", "pad_value", "score")


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a policy.

    Args:
        match: a layer's exact name, a glob (``"encoder.*"``), ``"re:PATTERN"`` (the whole name
            must match), ``"type:Conv2d"``, or a layer class.
        weight: the specification of the weights' quantizer; ``None`` leaves them float.
        input: likewise for the layer's input.
        relu: what replaces a ReLU that feeds a binary (sign) input of the layer:
            ``"hardtanh"``, ``"rprelu"`` or ``"identity"``.
        pad_value: what a convolution with zero padding pads its quantized input with.
        score: the specification of the quantizer of attention scores.

    Raises:
        ConfigurationError: for a specification that cannot be built or an unknown choice.
    """

    match: str | type[nn.Module]
    weight: QuantizerSpec = None
    input: QuantizerSpec = None
    relu: str = "hardtanh"
    pad_value: float = 0.0
    score: QuantizerSpec = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.match, str)
            or (isinstance(self.match, type) and issubclass(self.match, nn.Module)),
            "match",
            self.match,
            "use a layer's name, a glob, 're:...', 'type:...' or a module class",
        )
        if self.relu not in RELU_CHOICES:
            raise unknown("relu choice", self.relu, RELU_CHOICES)
        if isinstance(self.match, str) and self.match.startswith("re:"):
            try:
                re.compile(self.match[3:])
            except re.error as error:
                raise ConfigurationError(
                    f"match={self.match!r} cannot be used: it is not a regular expression "
                    f"({error})."
                ) from error
        number = isinstance(self.pad_value, (int, float)) and math.isfinite(self.pad_value)
        require(number, "pad_value", self.pad_value, "use a number")
        build(self.weight, "weights")  # a wrong specification fails here, before any training
        build(self.input, "activations")
        build(self.score, "activations")

    @classmethod
    def parse(cls, rule: Rule | Mapping[str, Any]) -> Rule:
        """Return the rule of a mapping; unknown keys raise with the nearest match."""
        if isinstance(rule, Rule):
            return rule
        require(
            isinstance(rule, Mapping),
            "policy",
            rule,
            "each rule is a mapping with the keys match, weight and input",
        )
        for key in rule:
            if key not in _KEYS:
                raise unknown("key of a policy rule:", key, _KEYS)
        values = {str(key): plain(value) for key, value in rule.items()}
        values.setdefault("match", "*")
        if isinstance(values["match"], str) and values["match"].startswith("type:"):
            values["match"] = f"type:{values['match'][5:].strip().rpartition('.')[2]}"
        if values.get("pad_value") is None:
            values["pad_value"] = 0.0
        return cls(**values)

    def names_exactly(self, name: str) -> bool:
        """Return whether the rule matches by the layer's own full name."""
        return self.match == name

    def matches(self, name: str, layer_class: type[nn.Module]) -> bool:
        """Return whether the rule applies to the float class ``layer_class`` called ``name``."""
        if not isinstance(self.match, str):
            return issubclass(layer_class, self.match)
        if self.match.startswith("type:"):
            return any(c.__name__ == self.match[5:] for c in layer_class.__mro__)
        if self.match.startswith("re:"):
            return re.fullmatch(self.match[3:], name) is not None
        return self.match == name or fnmatch.fnmatchcase(name, self.match)

    def plain(self) -> dict[str, Any]:
        """Return the rule as plain Python, so that a checkpoint can keep it."""
        match = self.match if isinstance(self.match, str) else f"type:{self.match.__name__}"
        values = {"match": match, "weight": recordable(self.weight)}
        values["input"] = recordable(self.input)
        if self.relu != "hardtanh":
            values["relu"] = self.relu
        if self.pad_value != 0:
            values["pad_value"] = self.pad_value
        if self.score is not None:
            values["score"] = recordable(self.score)
        return values


@dataclasses.dataclass(frozen=True)
class Policy:
    """An ordered list of rules; for each layer the last one that matches wins.

    The first and the last quantizable layer stay float unless a rule gives their exact name: a
    glob, pattern or type does not reach them, as binarizing them costs most of the accuracy.
    Embeddings of positions, adapters, layers whose weight another kind of layer shares (a tied
    head) and frozen layers beside trained ones (a teacher) are only reached by a rule that is
    about such layers alone: ``"*.wpe"``, ``"teacher.*"``, or their exact names.
    """

    rules: tuple[Rule, ...]

    def __repr__(self) -> str:
        """Return the rules as plain Python, which :meth:`parse` reads."""
        return f"Policy({self.plain()})"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        rows = [(r["match"], r["weight"], r["input"]) for r in self.plain()]
        return html_table(("match", "weight", "input"), rows, ["the last rule that matches wins"])

    @classmethod
    def parse(cls, policy: Policy | Mapping[str, Any] | Sequence[Any]) -> Policy:
        """Return the policy of a list of rules, or of one rule (``match`` defaults to ``"*"``).

        Raises:
            ConfigurationError: for an empty policy and for wrong rules.
        """
        if isinstance(policy, Policy):
            return policy
        rules = [policy] if isinstance(policy, (Mapping, Rule)) else policy
        require(
            isinstance(rules, Sequence) and not isinstance(rules, str) and len(rules) > 0,
            "policy",
            policy,
            "give a list of rules such as {'match': '*', 'weight': 'sign', 'input': 'sign'}",
        )
        return cls(tuple(Rule.parse(rule) for rule in rules))

    def rule_for(
        self,
        name: str,
        layer_class: type[nn.Module],
        edge: bool,
        means: Callable[[Rule], bool] = lambda rule: True,
    ) -> Rule | None:
        """Return the rule that decides about a layer.

        Args:
            name: the layer's full name in the model.
            layer_class: its float class.
            edge: whether it is the first or the last quantizable layer.
            means: whether a rule that matches, but not by the exact name, means the layer.
        """
        for rule in reversed(self.rules):
            if rule.names_exactly(name):
                return rule
            if not edge and rule.matches(name, layer_class) and means(rule):
                return rule
        return None

    def plain(self) -> list[dict[str, Any]]:
        """Return the policy as plain Python."""
        return [rule.plain() for rule in self.rules]


def plain(value: Any) -> Any:
    """Return mappings and sequences of any kind (Hydra's too) as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value


def recordable(spec: Any) -> Any:
    """Return a specification as plain Python; of a module only ``{"module": its class}``."""
    if isinstance(spec, Mapping):
        return {str(k): recordable(v) for k, v in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [recordable(v) for v in spec]
    if spec is None or isinstance(spec, (str, bool, int, float)):
        return spec
    return {"module": type(spec).__name__}
