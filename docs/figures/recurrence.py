"""The sawtooth of one latent weight under label noise. ``python docs/figures/recurrence.py``."""

from drawing import ORANGE, WRONG, save
from matplotlib.figure import Figure
from student import train

run = train(n=16, m=4, samples=2048, noise=0.5, steps=4000, seed=2)
after = run.signed[500:]
share = (after < 0).float().mean(0)
index = int((share - 0.2).abs().argmin())
weight = after[:, index]
moves = weight[1:] - weight[:-1]
down, up = -float(moves[weight[:-1] >= 0].mean()), float(moves[weight[:-1] < 0].mean())

figure = Figure(figsize=(7.5, 2.9), layout="constrained")
axes = figure.subplots()
axes.plot(weight[:80], "o-", color=ORANGE, markersize=3, linewidth=1)
axes.axhline(0, color="black", linewidth=0.7)
axes.axhspan(min(-0.05, float(weight[:80].min()) * 1.1), 0, color=WRONG, zorder=0)
axes.set_xlabel("step, after 500")
axes.set_ylabel("latent weight times its right sign")
predicted = down / (down + up)
axes.set_title(
    f"down by g = {down:.4f} a step while right, up by {up:.4f} while wrong:\n"
    f"wrong in g / D = {predicted:.0%} of the steps (D = {down + up:.4f}); counted: "
    f"{float(share[index]):.0%}",
    fontsize=9.5,
)
save(figure, "sawtooth")
