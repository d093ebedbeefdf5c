"""A weight that hops between two levels, and one that is frozen. ``python docs/figures/oscillation.py``."""

import torch
from drawing import BLUE, GREY, ORANGE, save
from matplotlib.figure import Figure

from ste_lightning import functional as SF

target, step = 0.55, 1.0  # the best weight lies between the levels 0 and 1


def path(rate: float, rest: int | None = None) -> tuple[list[float], list[float]]:
    """Train one 2-bit weight on (q(x) - target)^2 / 2; from ``rest`` on it is frozen."""
    x, latent, levels = torch.tensor(0.2, requires_grad=True), [], []
    for number in range(120):
        q = SF.round(x / step) * step
        latent.append(x.item())
        levels.append(q.item())
        if rest is not None and number >= rest:
            continue
        (slope,) = torch.autograd.grad((q - target).square() / 2, x)
        with torch.no_grad():
            x -= rate * slope
    return latent, levels


figure = Figure(figsize=(8.4, 3.1), layout="constrained")
for axes, (title, rest) in zip(
    figure.subplots(1, 2, sharey=True), {"free": None, "frozen at step 60": 60}.items(), strict=True
):
    latent, levels = path(0.08, rest)
    axes.step(range(120), levels, where="post", color=ORANGE, linewidth=1, label="level used")
    axes.plot(latent, color=BLUE, linewidth=1.5, label="latent weight")
    axes.axhline(target, color=GREY, linewidth=0.8, linestyle="--", label="best value")
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel("training step")
figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
save(figure, "oscillation")
