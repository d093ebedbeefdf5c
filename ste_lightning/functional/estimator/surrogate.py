"""What a backward rule is, and the registry that finds one by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.fx import Proxy

from ste_lightning.errors import ConfigurationError, require, require_free_name, unknown
from ste_lightning.extensions import REMEDY, load_installed

__all__ = [
    "IndicatorSurrogate",
    "RuleSpec",
    "Surrogate",
    "Window",
    "antiderivative",
    "register",
    "rule_class",
    "surrogate",
    "surrogate_names",
]


def antiderivative(derivative: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the integral of ``derivative`` from 0 to ``x``, elementwise.

    Gauss-Legendre quadrature with 128 nodes: exact to rounding for smooth rules, to about 1 %
    of a jump's height where ``derivative`` jumps.
    """
    nodes, weights = np.polynomial.legendre.leggauss(128)
    total = torch.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        total = total + weight / 2 * derivative(x * float((node + 1) / 2))
    return total * x


class Window(NamedTuple):
    """A rule that is 1 for low < x <= high and ``outside`` elsewhere: one bit remembers it."""

    low: float
    high: float
    outside: float = 0.0


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A backward rule: the derivative f'(x) that a quantizer pretends to have.

    Subclasses are frozen dataclasses whose fields are the rule's parameters (floats, or 0-d
    tensors where a schedule drives them). Only :meth:`derivative` must be written;
    :meth:`virtual`, the function that training behaves as if it had applied, is then found by
    quadrature.

    A rule also says what it must remember of the input for the backward pass
    (:meth:`residual`): by default the input itself.
    """

    name: ClassVar[str] = ""
    parameter_names: ClassVar[tuple[str, ...]] = ()
    equation: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    operands: ClassVar[frozenset[str]] = frozenset({"weights", "activations"})
    remembers: ClassVar[str] = "input"
    even: ClassVar[bool] = True

    @functools.cached_property
    def windows(self) -> dict[torch.dtype, Window]:
        """What :meth:`window` has found: every step of training asks for it."""
        return {}

    def derivative(self, x: Tensor) -> Tensor:
        """Return f'(x), elementwise, in the shape and dtype of ``x``."""
        raise TypeError(f"{type(self).__name__} must define derivative(x)")

    def virtual(self, x: Tensor) -> Tensor:
        """Return f(x), the virtual forward: the antiderivative of f'."""
        return antiderivative(self.derivative, x)

    def residual(self, x: Tensor) -> Tensor | None:
        """Return what the backward pass must remember of ``x``; ``None`` for nothing."""
        return x

    def pullback(self, grad: Tensor, residual: Tensor | None) -> Tensor:
        """Return the coarse gradient ``grad * f'(x)`` from what :meth:`residual` kept."""
        assert residual is not None
        return grad * self.derivative(residual)

    def coarse_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return ``grad * f'(x)`` where ``x`` itself is at hand, as for latent weights."""
        return self.pullback(grad, self.residual(x))

    def window(self, dtype: torch.dtype) -> Window | None:
        """Return the rule as a window on numbers of ``dtype``; ``None`` where it is not one."""
        return None

    def node(self, x: Tensor) -> Tensor | None:
        """Return the torch function of ``x`` whose derivative is the rule, as a new tensor.

        Args:
            x: float32 or float64; torch compares narrower numbers in another precision.

        Returns:
            A tensor whose backward pass does not read it; ``None`` where torch has no such
            function.
        """
        return None

    def parameters(self) -> dict[str, Any]:
        """Return the rule's parameters by name."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def specification(self) -> dict[str, Any]:
        """Return ``{"rule": name, **parameters}``, from which :func:`surrogate` rebuilds it."""
        return {"rule": self.name, **self.parameters()}


@dataclasses.dataclass(frozen=True)
class IndicatorSurrogate(Surrogate):
    """A rule that is one on a set and zero elsewhere: it remembers one bit per element."""

    remembers: ClassVar[str] = "mask"

    def support(self, x: Tensor) -> Tensor:
        """Return the boolean mask of the elements that the gradient passes."""
        raise TypeError(f"{type(self).__name__} must define support(x)")

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 on the support and 0 elsewhere."""
        return self.support(x).to(x.dtype)

    def residual(self, x: Tensor) -> Tensor | None:
        """Return the support's mask."""
        return self.support(x)

    def pullback(self, grad: Tensor, residual: Tensor | None) -> Tensor:
        """Return ``grad`` on the support and zero elsewhere."""
        assert residual is not None
        return grad * residual


RuleSpec = str | Mapping[str, Any] | Surrogate
R = TypeVar("R", bound=type[Surrogate])
_RULES: dict[str, type[Surrogate]] = {}
_ALIASES: dict[str, str] = {}


def register(name: str, *aliases: str) -> Callable[[R], R]:
    """Make a rule available everywhere under ``name``: functions, layers, recipes, studies.

    Args:
        name: the rule's name.
        aliases: other names under which users may know it.

    Returns:
        A class decorator for a frozen dataclass that derives from :class:`Surrogate`.

    Raises:
        ConfigurationError: for what is no such class, or no name; if ``name`` is taken by another
            class, or if the rule with its default parameters cannot descend
            (see :mod:`ste_lightning.functional.estimator.rule_check`).
    """
    from ste_lightning.functional.estimator.rule_check import refuse_if_uphill  # it imports this

    require(isinstance(name, str) and bool(name), "name", name, "use a name")

    def add(rule: R) -> R:
        fits = isinstance(rule, type) and issubclass(rule, Surrogate)
        remedy = "register a frozen dataclass that derives from Surrogate"
        require(fits and dataclasses.is_dataclass(rule), "rule", rule, remedy)
        require_free_name("backward rule", name, _RULES.get(name), rule)
        rule.parameter_names = tuple(f.name for f in dataclasses.fields(rule))
        if all(f.default is not dataclasses.MISSING for f in dataclasses.fields(rule)):
            refuse_if_uphill(rule())
        rule.name = name
        _RULES[name] = rule
        _ALIASES.update(dict.fromkeys(aliases, name))
        return rule

    return add


def surrogate_names() -> tuple[str, ...]:
    """Return the names of all registered backward rules, those of extensions too, sorted."""
    load_installed()
    return tuple(sorted(_RULES))


def rule_class(name: str) -> type[Surrogate]:
    """Return the class registered under ``name`` or one of its aliases."""
    if _ALIASES.get(name, name) not in _RULES:
        load_installed()
    rule = _RULES.get(_ALIASES.get(name, name))
    if rule is None:
        raise unknown("backward rule", name, _RULES, REMEDY)
    return rule


@functools.lru_cache(maxsize=512)
def _cached(name: str, params: tuple[tuple[str, Any], ...]) -> Surrogate:
    return _make(name, dict(params))


def _make(name: str, params: dict[str, Any]) -> Surrogate:
    rule = rule_class(name)
    for key in params:
        if key not in rule.parameter_names:
            known = rule.parameter_names or ("(none)",)
            raise unknown(f"parameter of backward rule {rule.name!r}:", key, known)
    return rule(**params)


def surrogate(rule: RuleSpec, **params: Any) -> Surrogate:
    """Return the backward rule of that name.

    Args:
        rule: a registered name; a mapping ``{"rule": name, **parameters}``, as
            :meth:`Surrogate.specification` returns it; or a rule, which is returned as it is.
        params: the rule's parameters; those left out take the defaults of its paper.

    Returns:
        The rule, with ``derivative(x)`` and ``virtual(x)``.

    Raises:
        ConfigurationError: for an unknown name or parameter (with the nearest match), for a
            parameter out of range, and for a rule that cannot descend.
    """
    if isinstance(rule, Surrogate):
        if params:
            raise ConfigurationError(
                f"rule={rule!r} is already built: give its parameters to it, not {params!r} here."
            )
        return rule
    name: Any = rule
    if not isinstance(rule, str) and isinstance(rule, Mapping):
        params = {**rule, **params}
        name = params.pop("rule", "")
    if not params or all(isinstance(v, (int, float)) for v in params.values()):
        if torch.compiler.is_compiling():
            return _make(name, params)
        return _cached(name, tuple(sorted(params.items())))
    return _make(name, params)


def is_driven(value: object) -> bool:
    """Return whether a parameter is a tensor that a schedule drives, which is trusted.

    The compiler of torch 2.6 makes rules whose parameters are symbols for such tensors.
    """
    return isinstance(value, (Tensor, Proxy))


def is_positive(value: float | Tensor) -> bool:
    """Return whether a parameter is positive, as far as it is known."""
    return is_driven(value) or bool(value > 0)
