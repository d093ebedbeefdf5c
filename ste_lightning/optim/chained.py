"""Several optimizers, each on its own parameters, that look like one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from ste_lightning.errors import require

__all__ = ["Chained"]


class Chained(Optimizer):
    """Step several optimizers on disjoint parameters as if they were one.

    Lightning's automatic optimization takes one optimizer; Bop needs a second one for the
    parameters that are not binary::

        import torch
        from ste_lightning import layers, optim

        net = torch.nn.Sequential(
            layers.QuantLinear(8, 8, weight_quantizer="sign"), torch.nn.Linear(8, 2)
        )
        adam = torch.optim.Adam(net[1].parameters(), lr=1e-3)
        optimizer = optim.Chained(optim.Bop([net[0].weight]), adam)

    Learning-rate schedulers see the parameter groups of all of them.

    Args:
        optimizers: two or more optimizers without a common parameter.

    Raises:
        ConfigurationError: for fewer than two optimizers, or a parameter in two of them.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        require(len(optimizers) > 1, "optimizers", optimizers, "give two or more")
        parameters = [p for o in optimizers for g in o.param_groups for p in g["params"]]
        require(
            len({id(p) for p in parameters}) == len(parameters),
            "optimizers",
            [type(o).__name__ for o in optimizers],
            "a parameter is in two of them; give each parameter to one",
        )
        super().__init__(parameters, {})
        self.optimizers = optimizers
        self._share_groups()

    def _share_groups(self) -> None:
        """Show the very groups of the optimizers, so that schedulers change what they use."""
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the closure once, then step every optimizer; return the closure's result."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' state dicts, in their order."""
        return {"optimizers": [o.state_dict() for o in self.optimizers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned.

        Raises:
            ConfigurationError: if it was made by another number of optimizers.
        """
        states = state_dict["optimizers"]
        require(
            len(states) == len(self.optimizers),
            "state_dict",
            f"{len(states)} optimizers",
            f"this one chains {len(self.optimizers)}",
        )
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        self._share_groups()
