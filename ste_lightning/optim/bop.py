"""Bop, the binary optimizer: no latent weights, only flips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from ste_lightning.errors import require
from ste_lightning.functional import hard_sign

__all__ = ["Bop", "SecondOrderBop"]


def _check(lr: float, threshold: float) -> None:
    require(0 < lr <= 1, "lr", lr, "the adaptivity rate gamma must lie in (0, 1]")
    require(threshold >= 0, "threshold", threshold, "use 0 or a positive number")


class _FlipOptimizer(Optimizer):
    """Binarizes its weights at the first step and flips those whose evidence is strong enough."""

    def _evidence(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """Return what is compared with the threshold, after taking in the gradient."""
        raise TypeError(f"{type(self).__name__} must define _evidence")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: computes the loss and the gradients, as for every torch optimizer.

        Returns:
            What the closure returned, or ``None``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    weight.copy_(hard_sign(weight))
                evidence = self._evidence(weight.grad, state, group)
                flips = weight * evidence > group["threshold"]
                weight.copy_(torch.where(flips, -weight, weight))
        return loss


class Bop(_FlipOptimizer):
    r"""Flip a binary weight when the average gradient pushes against it for long enough.

    .. math::

        m \leftarrow (1 - \gamma) m + \gamma g, \qquad
        w \leftarrow -w \text{ where } w m > \tau

    A tie :math:`w m = \tau` keeps the weight. The weights must be binary; what they hold is
    replaced by its sign at the first step. There is nothing to decay and nothing to clip.

    Args:
        params: the latent weights of quantized layers, or groups of them
            (:func:`ste_lightning.optim.quantizer_param_groups` finds them); give all other
            parameters to another optimizer and join the two with
            :class:`ste_lightning.optim.Chained`.
        lr: the adaptivity rate gamma, default 1e-4; named ``lr`` so that torch's schedulers
            drive it. The paper decays it from 1e-4 to 1e-6 on ImageNet.
        threshold: tau, default 1e-8.

    Raises:
        ConfigurationError: for ``lr`` outside (0, 1] or a negative threshold.

    Source: Helwegen et al. 2019, arXiv 1906.02107, algorithm 1.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-4, threshold: float = 1e-8) -> None:
        _check(lr, threshold)
        super().__init__(params, {"lr": lr, "threshold": threshold})

    def _evidence(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state["exp_avg"] = torch.zeros_like(gradient)
        mean: Tensor = state["exp_avg"]
        return mean.lerp_(gradient, group["lr"])


class SecondOrderBop(_FlipOptimizer):
    r"""Bop whose average gradient is measured against its own size, as in Adam.

    .. math::

        m \leftarrow (1 - \gamma) m + \gamma g, \quad
        v \leftarrow (1 - \sigma) v + \sigma g^2, \quad
        w \leftarrow -w \text{ where } w \, m / (\sqrt v + \epsilon) > \tau

    Args:
        params: as in :class:`Bop`.
        lr: the adaptivity rate gamma of the mean, default 1e-7 as for CIFAR-10 in the paper.
        sigma: the adaptivity rate of the second moment, default 1e-3.
        threshold: tau, default 1e-5.
        bias_correction: divide m by 1 - (1 - gamma)^t and v by 1 - (1 - sigma)^t; default off.
        eps: keeps the division finite, default 1e-10.

    Raises:
        ConfigurationError: for ``lr`` or ``sigma`` outside (0, 1], a negative threshold, or
            ``eps`` that is not positive.

    Source: Suarez-Ramirez et al. 2021, arXiv 2104.05124, section 3.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-7,
        sigma: float = 1e-3,
        threshold: float = 1e-5,
        bias_correction: bool = False,
        eps: float = 1e-10,
    ) -> None:
        _check(lr, threshold)
        require(0 < sigma <= 1, "sigma", sigma, "use a number in (0, 1]")
        require(eps > 0, "eps", eps, "use a positive number")
        defaults = {
            "lr": lr,
            "sigma": sigma,
            "threshold": threshold,
            "bias_correction": bias_correction,
            "eps": eps,
        }
        super().__init__(params, defaults)

    def _evidence(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            state["exp_avg"] = torch.zeros_like(gradient)
            state["exp_avg_sq"] = torch.zeros_like(gradient)
        state["step"] += 1
        mean: Tensor = state["exp_avg"].lerp_(gradient, group["lr"])
        square: Tensor = state["exp_avg_sq"].lerp_(gradient.square(), group["sigma"])
        if group["bias_correction"]:
            step = float(state["step"])
            mean = mean / (1 - (1 - group["lr"]) ** step)
            square = square / (1 - (1 - group["sigma"]) ** step)
        evidence: Tensor = mean / (square.sqrt() + group["eps"])
        return evidence
