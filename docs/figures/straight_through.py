"""The step, what the backward pass pretends it was, and the slope it takes. ``python docs/figures/straight_through.py``."""

import torch
from drawing import BLUE, GREY, ORANGE, save
from matplotlib.figure import Figure

from ste_lightning import functional as SF

x = torch.linspace(-2, 2, 801)
rule = SF.surrogate("clipped")
sign = SF.hard_sign(x)
sign[399:402] = torch.nan

figure = Figure(figsize=(8.4, 2.7), layout="constrained")
left, middle, right = figure.subplots(1, 3, sharex=True)
left.plot(x, sign, color="black", linewidth=2)
left.set_title("forward: sign(x)\nits slope is 0, so nothing learns", fontsize=9)
middle.plot(x, sign, color=GREY, linewidth=1)
middle.plot(x, rule.virtual(x), color=BLUE, linewidth=2)
middle.set_title("backward: pretend it was\na function with a slope", fontsize=9)
slope = rule.derivative(x)
right.plot(x, slope, color=ORANGE, linewidth=2)
right.fill_between(x, slope, color=ORANGE, alpha=0.2, linewidth=0)
right.set_title("its slope f'(x): the backward rule\n(this one is called clipped)", fontsize=9)
for panel in (left, middle, right):
    panel.axhline(0, color=GREY, linewidth=0.5)
    panel.set_xlabel("x")
    panel.set_ylim(-1.25, 1.4)
save(figure, "straight_through")
