"""Control of the share of weights that change their level in a step."""

from __future__ import annotations

from ste_lightning.errors import require

__all__ = ["TransitionRate"]


class TransitionRate:
    r"""A feedback loop from the transition rate to the latent weights' step size.

    Latent weights gather at the quantizer's thresholds, so that even a small learning rate
    moves many of them to another level. This loop schedules the rate of those transitions
    itself:

    .. math::

        K_t = \mu K_{t-1} + (1 - \mu) k_t, \qquad
        U_t = \max(0, \; U_{t-1} + \eta (R_t - K_t))

    with k_t the share of weights that changed their level in step t, K_t its running mean, R_t
    the target and U_t the learning rate of the latent weights.

    Args:
        lr: U_0, the learning rate at the start.
        gain: eta; default ``lr``, as in the paper.
        momentum: mu; default 0.99.

    Raises:
        ConfigurationError: for a rate or gain that is not positive, or a momentum outside
            [0, 1).

    Source: Lee et al. 2025, arXiv 2404.19248, section 4.2, equations 5 and 10 to 12.
    """

    def __init__(self, lr: float, gain: float | None = None, momentum: float = 0.99) -> None:
        require(lr > 0, "lr", lr, "use a positive number")
        require(gain is None or gain > 0, "gain", gain, "use a positive number or None")
        require(0 <= momentum < 1, "momentum", momentum, "use a number in [0, 1)")
        self.lr = lr
        self.gain = lr if gain is None else gain
        self.momentum = momentum
        self.running = 0.0

    def update(self, rate: float, target: float) -> float:
        """Take a step's transition rate and its target; return the next learning rate."""
        self.running = self.momentum * self.running + (1 - self.momentum) * rate
        self.lr = max(0.0, self.lr + self.gain * (target - self.running))
        return self.lr

    def state_dict(self) -> dict[str, float]:
        """Return the running rate, the learning rate and the gain."""
        return {"running": self.running, "lr": self.lr, "gain": self.gain}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.running, self.lr, self.gain = state["running"], state["lr"], state["gain"]
