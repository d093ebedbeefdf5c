"""What a network's own branches took for granted about sizes, as steps that check it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

import ste_lightning
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.errors import ConfigurationError

__all__ = ["SizeRules"]

_PARTS = ("_", "fx", "utils", "library", "export", "autograd", "functional", "nn/functional")
_INNER = (
    *(os.path.join(os.path.dirname(torch.__file__), part) for part in _PARTS),
    os.path.dirname(ste_lightning.__file__),
)


class SizeRules:
    """Makes steps of symbolic sizes.

    Args:
        symbols: symbol -> (input, axis).
    """

    def __init__(self, symbols: Mapping[Any, tuple[str, int]]) -> None:
        self._symbols = symbols
        self._made: dict[Any, Ref] = {}
        self.steps: list[Step] = []

    def add(self, shape_env: Any) -> None:
        """Add a check for every decision that the model's own code made on sizes."""
        for guard in shape_env.guards:
            where = guard.sloc.framework_loc
            if where is None or os.path.abspath(where.filename).startswith(_INNER):
                continue
            line = f"{os.path.basename(where.filename)}:{where.lineno}"
            holds = self.value(shape_env.replace(guard.expr))
            if holds is not True:
                self._step("sizes.check", (holds, line))

    def equal(self, expression: Any, name: str, axis: int) -> None:
        """Add a check that an input's axis has the size of an expression."""
        size = self._step("sizes.size", (Ref(name), axis))
        same = self._step("sizes.eq", (size, self.value(expression)))
        self._step("sizes.check", (same, f"axis {axis} of {name}"))

    def value(self, expression: Any) -> Any:
        """Return the reference or number of an expression.

        Raises:
            ConfigurationError: for one that steps cannot compute.
        """
        if isinstance(expression, (bool, int, float)):
            return expression
        if expression.is_Boolean and not expression.args:
            return bool(expression)
        if expression.is_Integer:
            return int(expression)
        if expression.is_number and expression.is_Float:
            return float(expression)
        known = self._made.get(expression)
        if known is None:
            known = self._made[expression] = self._computed(expression)
        return known

    def _computed(self, expression: Any) -> Ref:
        kind = type(expression).__name__
        if expression.is_Symbol:
            if expression not in self._symbols:
                raise ConfigurationError(f"the size {expression} depends on values.")
            name, axis = self._symbols[expression]
            return self._step("sizes.size", (Ref(name), axis))
        operator = _OPERATORS.get(kind)
        if operator is None:
            raise ConfigurationError(f"a branch on {expression} cannot be written down.")
        found, *rest = [self.value(part) for part in expression.args]
        if not rest:
            return self._step(operator, (found,))
        for other in rest:
            found = self._step(operator, (found, other))
        return found  # type: ignore[no-any-return]

    def _step(self, operator: str, args: tuple[Any, ...]) -> Ref:
        name = f"size_{len(self.steps)}"
        self.steps.append(Step(name, "function", operator, args, {}))
        return Ref(name)


_OPERATORS = {
    "Add": "sizes.add",
    "Mul": "sizes.mul",
    "Pow": "sizes.pow",
    "PowByNatural": "sizes.pow",
    "FloorDiv": "sizes.floordiv",
    "CleanDiv": "sizes.floordiv",
    "IntTrueDiv": "sizes.truediv",
    "FloatTrueDiv": "sizes.truediv",
    "Mod": "sizes.mod",
    "PythonMod": "sizes.mod",
    "Max": "sizes.max",
    "Min": "sizes.min",
    "ToFloat": "sizes.float",
    "FloorToInt": "sizes.floor",
    "CeilToInt": "sizes.ceil",
    "Equality": "sizes.eq",
    "Unequality": "sizes.ne",
    "StrictLessThan": "sizes.lt",
    "LessThan": "sizes.le",
    "StrictGreaterThan": "sizes.gt",
    "GreaterThan": "sizes.ge",
    "And": "sizes.and",
    "Or": "sizes.or",
    "Not": "sizes.not",
}
