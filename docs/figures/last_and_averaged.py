"""The last signs and the vote of all steps. ``python docs/figures/last_and_averaged.py``."""

from drawing import BLUE, ORANGE, WRONG, save
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from student import train

run = train(n=128, m=1, samples=440, rule="identity", steps=400, seed=10)
wrong = run.signed[-120:] < 0
busiest = wrong.sum(0).argsort(descending=True)[:12]
strip = wrong[:, busiest].T
share = (run.signed[1:, busiest] > 0).float().mean(0)

figure = Figure(figsize=(8.4, 3.2), layout="constrained")
left, middle, right = figure.subplots(1, 3, width_ratios=[8, 0.8, 2.4])
left.imshow(strip, aspect="auto", cmap=ListedColormap(["#dbe9f4", ORANGE]), interpolation="nearest")
left.set_title("12 of 128 weights, the last 120 steps: orange = wrong sign", fontsize=9)
left.set_xlabel("step")
left.set_ylabel("weight")
middle.imshow(
    strip[:, -1:], aspect="auto", cmap=ListedColormap(["#dbe9f4", ORANGE]), vmin=0, vmax=1
)
middle.set_title("last", fontsize=9)
middle.set_xticks([])
middle.set_yticks([])
right.barh(range(12), share, color=BLUE)
right.axvline(0.5, color="black", linewidth=0.8)
right.axvspan(0, 0.5, color=WRONG, zorder=0)
right.set_xlim(0, 1)
right.set_ylim(11.5, -0.5)
right.set_yticks([])
right.set_title("averaged: share of all\nsteps with the right sign", fontsize=9)
save(figure, "last_and_averaged")
print("wrong at the last step:", int(run.wrong[-1]), " by majority:", int(run.wrong_averaged[-1]))
