"""Three rules, and how many samples each needs. ``python docs/figures/backward_rules.py``."""

import torch
from drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, save
from matplotlib.figure import Figure

from ste_lightning import functional as SF
from ste_lightning.theory import simulate

RULES = {"identity": ORANGE, "relu": PURPLE, "clipped": BLUE, "triangular": GREEN}
SAMPLES = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
x = torch.linspace(-2.5, 2.5, 501)

figure = Figure(figsize=(8.4, 3.1), layout="constrained")
left, right = figure.subplots(1, 2)
for offset, (name, colour) in enumerate(RULES.items()):
    left.plot(x, SF.surrogate(name).derivative(x) + 0.012 * offset, color=colour, label=name)
    shares = [
        float(simulate(n=32, m=4, samples=N, trials=256, rule=name).last_recovery.float().mean())
        for N in SAMPLES
    ]
    right.semilogx(SAMPLES, shares, "o-", color=colour, markersize=3.5, label=name)
left.set_title("f'(x), the slope that the backward pass takes", fontsize=9.5)
left.set_xlabel("input x of the step")
right.set_title("students that find their teacher (n = 32)", fontsize=9.5)
right.set_xlabel("samples N")
right.axhline(0.5, color=GREY, linewidth=0.6)
right.set_xticks(SAMPLES[::2], SAMPLES[::2])
right.minorticks_off()
right.legend()
save(figure, "backward_rules")
