"""A call of a torch operator on floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.export.c.program import Program, Stored, refused
from ste_lightning.deploy.graph.operators import resolved
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow

__all__ = ["FloatCall", "floats_of", "listed"]


def floats_of(shape: Sequence[int]) -> Stored:
    """Return how a tensor of floats is stored."""
    return Stored("floats", 1, 1, math.prod(shape))


class FloatCall:
    """A step with its arguments by name and the shapes of what it gets and makes.

    Args:
        program: where it goes.
        step: of torch's operators.
        flow: where results and constants are known.
    """

    def __init__(self, program: Program, step: Step, flow: Flow) -> None:
        schema = resolved(step.target)._schema  # type: ignore[attr-defined]
        names = [argument.name for argument in schema.arguments]
        self.given: dict[str, Any] = {a.name: a.default_value for a in schema.arguments}
        self.given |= dict(zip(names, step.args, strict=False)) | step.kwargs
        self.packet = step.target.partition(".")[0]
        self.target, self.result, self.flow = step.target, step.result, flow
        self.names, self.program = names, program
        self.name = program.unique(step.result)
        self.made: Tensor = flow.values[step.result]
        if self.made.dtype != torch.float32:
            raise refused(f"operator {step.target!r} of {self.made.dtype} (step {step.result!r})")

    def refuse(self, why: str) -> Exception:
        """Return the error for arguments that have no C."""
        return refused(f"operator {self.target!r} with {why} (step {self.result!r})")

    def constant(self, name: str) -> Tensor | None:
        """Return an argument that is a constant, or ``None`` where nothing is given."""
        value = self.given[name]
        if value is None:
            return None
        if not isinstance(value, Ref) or value.name not in self.flow.constants:
            raise self.refuse(f"{name!r} that is no constant")
        return self.flow.constants[value.name].detach().float()

    def source(self, name: str) -> str:
        """Return the name of an argument that is a result."""
        value = self.given[name]
        if not isinstance(value, Ref) or value.name in self.flow.constants:
            raise self.refuse(f"a constant {name!r}")
        if self.flow.values[value.name].dtype != torch.float32:
            raise self.refuse(f"{name!r} of {self.flow.values[value.name].dtype}")
        return value.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a result."""
        return tuple(self.flow.values[name].shape)

    def array(self, role: str, values: Tensor | None) -> str:
        """Return the name of a constant array of the step, ``NULL`` for none."""
        found = None if values is None else values.detach().float().numpy()
        return self.program.array(f"{self.name}_{role}", found)

    def add(
        self,
        inputs: Sequence[str],
        body: str,
        kernels: Sequence[str] = (),
        temporaries: Sequence[tuple[str, str, int]] = (),
        in_place: bool = False,
    ) -> None:
        """Add the operation; arguments are those of :meth:`.Program.add`."""
        comment = f"{self.packet}: {'x'.join(map(str, self.made.shape[1:]))}"
        stored = floats_of(self.made.shape)
        self.program.add(
            self.name, comment, inputs, self.result, stored, body, kernels, temporaries, in_place
        )


def listed(value: Any, dims: int) -> list[int]:
    """Return a number for every dimension."""
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return found * dims if len(found) == 1 else found
