"""What a quantizer module is: the base class of all forward maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.functional import Surrogate, surrogate
from ste_lightning.functional.schedules import Schedule

__all__ = ["FLOAT_BITS", "Operand", "Quantizer", "bits_of", "describe"]

FLOAT_BITS = 32.0
Operand = Literal["weights", "activations"]


class Quantizer(nn.Module):
    """A forward map with a backward rule, as a module.

    y = q(x), or while a schedule drives ``strength`` below 1, y = x + strength (q(x) - x).

    Subclasses write :meth:`quantize` and :meth:`integer_levels`.

    Args:
        rule: the backward rule, a name or a :class:`~ste_lightning.functional.Surrogate`.
        params: the rule's parameters, when ``rule`` is a name.

    Attributes:
        bits: how many bits one quantized element takes when packed.
        rule: the backward rule, with the present values of its scheduled parameters.
        strength: how much of the quantization is applied, 1 = all.
        schedules: what :meth:`schedule` attached, by parameter.

    Raises:
        ConfigurationError: for an unknown rule or parameter, or a rule that does not fit the map.
    """

    map_name: ClassVar[str] = ""
    default_rule: ClassVar[str] = "clipped"
    operands: ClassVar[frozenset[str]] = frozenset({"weights", "activations"})
    between_levels: ClassVar[bool] = False  # the rule acts around every rounding transition
    schedulable: ClassVar[tuple[str, ...]] = ()  # parameters of the map that may be scheduled
    bits: float | Tensor

    def __init__(self, rule: str | Surrogate | None = None, **params: Any) -> None:
        super().__init__()
        self._rule = surrogate(self.default_rule if rule is None else rule, **params)
        require(
            not self.between_levels or len(self._rule.operands) == 2,
            "rule",
            self._rule.name,
            f"it does not fit the map {self.map_name!r}, whose rule acts around every transition "
            "between two levels; use for example 'identity' or 'tanh'",
        )
        self.strength: float | Tensor = 1.0
        self.schedules: dict[str, Schedule] = {}

    @property
    def rule(self) -> Surrogate:
        """The backward rule, with the present values of its scheduled parameters."""
        if not self._buffers:
            return self._rule
        driven = [n for n in self._rule.parameter_names if f"rule_{n}" in self._buffers]
        if not driven:
            return self._rule
        values = {n: getattr(self, f"rule_{n}") for n in driven}
        return type(self._rule)(**{**self._rule.parameters(), **values})

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values, in the shape and dtype of ``x``."""
        y = self.quantize(x)
        if not isinstance(self.strength, Tensor):
            return y
        # x + 1 (y - x) would miss the grid by rounding
        return torch.where(self.strength >= 1, y, x + (self.strength * (y - x)).to(x.dtype))

    def quantize(self, x: Tensor) -> Tensor:
        """Return q(x) in the shape and dtype of ``x``, differentiable by the backward rule."""
        raise TypeError(f"{type(self).__name__} must define quantize(x)")

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return q(x) as integers and what one of them is worth.

        Args:
            x: what :meth:`forward` takes.

        Returns:
            ``levels``, an int32 tensor in the shape of ``x``, the zero point already
            subtracted, and ``scale``, broadcastable against it: in eval mode and with full
            strength, ``forward(x) == levels * scale`` up to rounding.
        """
        raise TypeError(f"{type(self).__name__} must define integer_levels(x)")

    def schedule(self, parameter: str, function: str, **params: Any) -> None:
        """Drive a parameter of the map or of its backward rule by the training progress.

        The parameter becomes a 0-d buffer (its own name for the map's, ``rule_NAME`` for the
        rule's): it is saved, resumed and broadcast with the model, and changing it compiles
        nothing anew.

        Args:
            parameter: a parameter of the rule, one of the map's ``schedulable`` ones, or
                ``strength``.
            function: a name in :data:`ste_lightning.functional.schedules.SCHEDULES`.
            params: the function's parameters, and ``begin`` and ``until``, the part of training
                (fractions) in which it runs.

        Raises:
            ConfigurationError: for an unknown parameter or function, or values that the
                parameter cannot take.
        """
        own = ("strength", *self.schedulable)
        if parameter not in (*own, *self._rule.parameter_names):
            raise unknown("scheduled parameter", parameter, {*own, *self._rule.parameter_names})
        window = {key: params.pop(key) for key in ("begin", "until") if key in params}
        schedule = Schedule(function, tuple(sorted(params.items())), **window)
        for progress in (0.0, 0.5, 1.0):
            self._check_scheduled(parameter, schedule(progress))
        value = torch.tensor(schedule(0.0))
        name = parameter if parameter in own else f"rule_{parameter}"
        if name in own or name in self._buffers:
            delattr(self, name)
        self.register_buffer(name, value)
        self.schedules[parameter] = schedule

    def _check_scheduled(self, parameter: str, value: float) -> None:
        """Raise unless the parameter can take the value."""
        if parameter in self._rule.parameter_names and parameter not in self.schedulable:
            type(self._rule)(**{**self._rule.parameters(), parameter: value})
        elif parameter == "bits":
            require(2 <= value <= 8, "bits", value, "schedule whole numbers from 2 to 8")
        else:
            require(0 <= value <= 1, parameter, value, "schedule values from 0 to 1")

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set everything that is learned, measured or scheduled to its start, in place.

        Subclasses with parameters or buffers of their own extend it.
        """
        self.set_progress(0.0)

    def restore_transient(self) -> None:
        """Make anew what no checkpoint holds, for loaders that write into tensors one by one."""

    @torch.no_grad()
    def check(self, operand: str) -> None:
        """Raise unless the quantizer can be deployed; subclasses ask for more.

        Args:
            operand: what it quantizes, for the message: ``"weight"``, ``"input"``.

        Raises:
            ConfigurationError: for a parameter that is NaN or infinite.
        """
        for name, parameter in self.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise ConfigurationError(f"{name!r} of its {operand} quantizer is NaN or infinite")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move or cast; after ``to_empty``, whose memory holds nothing, start anew."""
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if _makes_empty(fn) and not any(t.is_meta for t in [*self.parameters(), *self.buffers()]):
            self.reset_parameters()
        return result

    @torch.no_grad()
    def set_progress(self, progress: float) -> None:
        """Move all scheduled parameters to ``progress``, the fraction of training done."""
        for parameter, schedule in self.schedules.items():
            name = parameter if parameter in self._buffers else f"rule_{parameter}"
            getattr(self, name).fill_(schedule(progress))

    def extra_repr(self) -> str:
        """Return the backward rule with its parameters, and the schedules."""
        params = "".join(
            f", {k}={v}" for k, v in self._rule.parameters().items() if k not in self.schedules
        )
        driven = "".join(f", {k}~{v.function}" for k, v in self.schedules.items())
        return f"rule={self._rule.name!r}{params}{driven}"


def _makes_empty(fn: Callable[[Tensor], Tensor]) -> bool:
    """Return whether ``fn`` gives a tensor without values: real memory for one that has none."""
    try:
        return not fn(torch.empty((), device="meta")).is_meta
    except (NotImplementedError, RuntimeError):
        return False  # it keeps values, and there are none to keep


def bits_of(quantizer: nn.Module | None) -> float:
    """Return the bits of one quantized element; ``FLOAT_BITS`` without a quantizer or its word."""
    return float(getattr(quantizer, "bits", FLOAT_BITS))


def describe(quantizer: nn.Module | None) -> str:
    """Return a short name for tables and reprs: ``float``, ``sign/clipped``, ..."""
    if quantizer is None:
        return "float"
    name = getattr(quantizer, "map_name", type(quantizer).__name__)
    rule = getattr(quantizer, "rule", None)
    return f"{name}/{rule.name}" if isinstance(rule, Surrogate) else str(name)
