"""Latent weights move, signs flip. ``python docs/figures/latent_weights.py``."""

from drawing import BLUE, GREEN, ORANGE, PURPLE, WRONG, save
from matplotlib.figure import Figure
from student import train

run = train(n=16, m=4, samples=64, noise=0.4, rule="clipped", steps=60, lr=0.3, seed=3)
flips = (run.latent[1:].sign() != run.latent[:-1].sign()).sum(0)
chosen = flips.argsort(descending=True)[[0, 2, 4, 9]].tolist()

figure = Figure(figsize=(7, 3.6), layout="constrained")
top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
for row, (index, colour) in enumerate(zip(chosen, (ORANGE, BLUE, GREEN, PURPLE), strict=True)):
    top.plot(run.latent[:, index], color=colour, linewidth=1.5)
    signs = run.latent[:, index] >= 0
    for step in range(len(signs)):
        bottom.barh(row, 1, left=step, height=0.75, color=colour if signs[step] else WRONG)
top.axhline(0, color="black", linewidth=0.7)
top.set_ylabel("latent weight x")
top.set_title("What the optimizer moves: four latent weights", fontsize=9.5)
bottom.set_yticks(range(4), ["", "", "", ""])
bottom.set_title("What the network uses: their signs (strong colour +1, pale -1)", fontsize=9.5)
bottom.set_xlabel("training step")
save(figure, "latent_weights")
