"""The gallery: every backward rule with what it pretends, every quantizer's staircase."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from ste_lightning.figures.colours import BLACK, BLUE, ORANGE, PALE_ORANGE
from ste_lightning.functional import Surrogate, hard_sign, hard_step

__all__ = ["gallery", "quantizer_figure", "rule_figure", "staircase_gallery"]

FORWARD, VIRTUAL, DERIVATIVE, FILL = BLACK, BLUE, ORANGE, PALE_ORANGE
_RANGE = 2.2
_Curve = NDArray[np.float64]


def rule_figure(rule: Surrogate) -> Figure:
    """Draw one backward rule: forward map, virtual forward and derivative.

    Args:
        rule: any backward rule; one that is meant for activations only is drawn with ``step``,
            all others with ``sign``.
    """
    figure, axes = _single()
    _draw_rule(axes, rule)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def gallery(rules: Sequence[Surrogate]) -> Figure:
    """Draw all rules on one page, a panel each, with one legend."""
    figure, panels = _grid(len(rules), height=2.35)
    for axes, rule in zip(panels, rules, strict=False):
        _draw_rule(axes, rule)
    _legend(figure, panels[0])
    return figure


def quantizer_figure(name: str, quantizer: nn.Module) -> Figure:
    """Draw one quantizer: its staircase, and the derivative that it pretends to have.

    Args:
        name: the title.
        quantizer: a quantizer module; it is calibrated on the drawn range if it can be.
    """
    figure, axes = _single()
    _draw_quantizer(axes, name, quantizer)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def staircase_gallery(quantizers: Sequence[tuple[str, nn.Module]]) -> Figure:
    """Draw all quantizers on one page, given as (title, module), with one legend."""
    figure, panels = _grid(len(quantizers), height=2.35)
    for axes, (name, quantizer) in zip(panels, quantizers, strict=False):
        _draw_quantizer(axes, name, quantizer)
    _legend(figure, panels[0])
    return figure


def _single() -> tuple[Figure, Axes]:
    """Return a figure with fixed margins: forty of them need no layout engine."""
    figure = Figure(figsize=(4.6, 3.4))
    return figure, figure.add_axes((0.1, 0.19, 0.86, 0.71))


def _grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(4, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.9 * columns, height * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flatten())
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _draw_rule(axes: Axes, rule: Surrogate) -> None:
    x = torch.linspace(-_RANGE, _RANGE, 1201, dtype=torch.float64)
    quantize, base = (hard_sign, -1.0) if "weights" in rule.operands else (hard_step, 0.0)
    forward = _broken(quantize(x).numpy(), jump=0.5)
    virtual = rule.virtual(x).numpy()
    derivative = rule.derivative(x).numpy()
    peak = float(np.abs(derivative).max())
    scale = 1.0 if peak <= 2.05 else 2.0 / peak
    _paint(axes, x.numpy(), forward, derivative * scale, virtual)
    numbers = {k: v for k, v in rule.parameters().items() if isinstance(v, (int, float))}
    params = ", ".join(f"{key} = {value:g}" for key, value in numbers.items())
    title = rule.name if not params else f"{rule.name}  ({params})"
    axes.set_title(title, fontsize=8.5, color="#222222")
    if scale != 1.0:
        note = f"derivative / {1 / scale:.3g}"
        axes.text(0.03, 0.92, note, transform=axes.transAxes, fontsize=7, color=DERIVATIVE)
    axes.set_ylim(base - 0.35, 2.3)


def _draw_quantizer(axes: Axes, name: str, quantizer: nn.Module) -> None:
    x = torch.linspace(-_RANGE, _RANGE, 2001)
    quantizer.eval()
    initialize = getattr(quantizer, "initialize", None)
    column = x.unsqueeze(0)
    if initialize is not None:
        initialize(column)
    leaf = column.clone().requires_grad_()
    y = quantizer(leaf)
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    values = y.detach().squeeze(0).double().numpy()
    derivative = gradient.squeeze(0).double().numpy()
    peak = float(np.abs(derivative).max())
    scale = 1.0 if peak <= 2.05 else 2.0 / peak
    steps = np.abs(np.diff(np.unique(np.round(values, 6))))
    jump = 0.5 * float(steps.min()) if 0 < len(steps) < 40 else np.inf
    _paint(axes, x.double().numpy(), _broken(values, jump), derivative * scale, None)
    axes.set_title(name, fontsize=8.5, color="#222222")
    if scale != 1.0:
        note = f"derivative / {1 / scale:.3g}"
        axes.text(0.03, 0.92, note, transform=axes.transAxes, fontsize=7, color=DERIVATIVE)


def _paint(
    axes: Axes, x: _Curve, forward: _Curve, derivative: _Curve, virtual: _Curve | None
) -> None:
    axes.fill_between(x, derivative, 0, color=FILL, linewidth=0, zorder=1)
    axes.plot(x, derivative, color=DERIVATIVE, linewidth=1.1, label="derivative f'", zorder=2)
    if virtual is not None:
        axes.plot(x, virtual, color=VIRTUAL, linewidth=1.5, label="virtual forward f", zorder=3)
    axes.plot(x, forward, color=FORWARD, linewidth=1.5, label="forward q", zorder=4)
    axes.axhline(0, color="#999999", linewidth=0.5, zorder=0)
    axes.axvline(0, color="#999999", linewidth=0.5, zorder=0)
    axes.set_xlim(-_RANGE, _RANGE)
    axes.set_xlabel("input x", fontsize=7, labelpad=1)
    axes.set_xticks([-2, -1, 0, 1, 2])
    axes.tick_params(labelsize=7, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _broken(values: _Curve, jump: float) -> _Curve:
    """Break the line where the value jumps, so that a staircase has no risers."""
    broken = np.array(values, dtype=np.float64)
    broken[1:][np.abs(np.diff(values)) > jump] = np.nan
    return broken


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
