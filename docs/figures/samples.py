"""Recovery against the number of samples, both iterates. ``python docs/figures/samples.py``."""

from drawing import BLUE, GREY, ORANGE, save
from matplotlib.figure import Figure

from ste_lightning.theory import simulate

figure = Figure(figsize=(8.4, 3), layout="constrained")
grids = {32: (24, 32, 42, 56, 75, 100), 128: (220, 280, 350, 440, 500, 570, 680, 850)}
for panel, (n, grid) in zip(figure.subplots(1, 2, sharey=True), grids.items(), strict=True):
    runs = [simulate(n=n, m=1, samples=N, trials=96, rule="identity", init_scale=0.8 * n**-0.5 / 2)
            for N in grid]  # fmt: skip
    last = [float(run.last_recovery.float().mean()) for run in runs]
    averaged = [float(run.ergodic_recovery.float().mean()) for run in runs]
    panel.plot(grid, averaged, "s-", color=BLUE, label="averaged: majority of all steps")
    panel.plot(grid, last, "o-", color=ORANGE, label="last step")
    panel.axhline(0.5, color=GREY, linewidth=0.6)
    panel.set_title(f"n = {n} weights", fontsize=9.5)
    panel.set_xlabel("samples N")
    panel.legend(fontsize=8, loc="lower right")
figure.axes[0].set_ylabel("share of 96 students\nthat find their teacher")
save(figure, "samples")
