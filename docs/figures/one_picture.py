"""The picture of the README: a trap door, a sawtooth, and a vote. ``python docs/figures/one_picture.py``."""

from drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, WRONG, save
from matplotlib.figure import Figure
from student import train

SETTINGS = [
    ("No noise, enough samples:\nit arrives and rests", {"n": 16, "m": 4, "samples": 512}),
    ("Noisy labels:\nit arrives, leaves, returns", {"n": 16, "m": 4, "samples": 512, "noise": 0.5}),
    (
        "Few samples: it never rests,\nbut its average is right",
        {"n": 128, "m": 1, "samples": 440, "rule": "identity", "steps": 600, "seed": 10},
    ),
]

figure = Figure(figsize=(9, 4.4), layout="constrained")
panels = figure.subplots(2, 3, height_ratios=[2, 1])
for column, (title, setting) in enumerate(SETTINGS):
    run = train(**setting)
    top, bottom = panels[:, column]
    first = max(0, len(run.latent) - 151)
    steps = range(first, len(run.latent))
    signed = run.signed[first:]
    top.plot(steps, signed, color=GREY, linewidth=0.4, alpha=0.6)
    restless = (signed < 0).sum(0).argsort(descending=True)[:3]
    for index, colour in zip(restless.tolist(), (ORANGE, GREEN, PURPLE), strict=True):
        top.plot(steps, signed[:, index], color=colour, linewidth=1.3)
    low, high = (-0.2, 0.3) if column < 2 else (-0.06, 0.09)
    top.set_ylim(low, high)
    top.axhspan(low, 0, color=WRONG, zorder=0)
    top.set_title(title, fontsize=9.5)
    bottom.plot(run.wrong, color=ORANGE, linewidth=0.7, label="this step's signs (last iterate)")
    bottom.plot(
        run.wrong_averaged, color=BLUE, linewidth=2, label="majority of all steps (averaged)"
    )
    bottom.set_xlabel("training step")
    bottom.set_ylim(-0.5, 10.5 if column < 2 else 20)
panels[0, 0].set_ylabel("latent weight times its right sign\n(pink: wrong sign)")
panels[1, 0].set_ylabel("wrong signs")
panels[1, 0].legend(fontsize=7.5, loc="upper right")
save(figure, "one_picture")
