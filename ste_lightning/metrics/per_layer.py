"""One metric for each layer, and their value for the whole network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["PerLayer"]


class PerLayer(WrapperMetric):
    """Clones of one scalar metric, one a layer, and their mean or sum over the network.

    Args:
        metric: what to measure in every layer.
        layers: the layers' names.
        total: ``"mean"`` weighs each layer by the number of elements in its last update, which
            gives the share among all weights; ``"sum"`` adds the layers' values, as ReSTE does.

    Raises:
        ConfigurationError: for no or repeated names, or another ``total``.
    """

    sizes: Tensor

    def __init__(self, metric: Metric, layers: Iterable[str], total: str = "mean") -> None:
        super().__init__()
        self.layers = tuple(layers)
        require(
            0 < len(set(self.layers)) == len(self.layers),
            "layers",
            self.layers,
            "give one or more different names",
        )
        if total not in ("mean", "sum"):
            raise unknown("total", total, ("mean", "sum"))
        self.total = total
        self.metrics = nn.ModuleList(metric.clone() for _ in self.layers)
        sizes = torch.zeros(len(self.layers), dtype=torch.float64)
        self.register_buffer("sizes", sizes)

    def layer(self, name: str) -> Metric:
        """Return the metric of one layer."""
        if name not in self.layers:
            raise unknown("layer", name, self.layers)
        metric = self.metrics[self.layers.index(name)]
        assert isinstance(metric, Metric)
        return metric

    def update(self, values: Mapping[str, Tensor | tuple[Any, ...]]) -> None:
        """Take the metric's arguments for some or all layers, a tensor or a tuple by name."""
        for name, arguments in values.items():
            given = arguments if isinstance(arguments, tuple) else (arguments,)
            if not given:
                raise ConfigurationError(f"values[{name!r}] is empty: give the metric's arguments.")
            self.layer(name).update(*given)
            self.sizes[self.layers.index(name)] = given[0].numel()

    def compute(self) -> dict[str, Tensor]:
        """Return each layer's value by name, and the network's under ``"all"``."""
        values = {name: self.layer(name).compute() for name in self.layers}
        stacked = torch.stack([v.to(self.sizes) for v in values.values()])
        if self.total == "mean":
            whole = (stacked * self.sizes).sum() / self.sizes.sum().clamp(min=1)
        else:
            whole = stacked.sum()
        return {**values, "all": whole}

    def reset(self) -> None:
        """Reset every layer's metric."""
        super().reset()
        for name in self.layers:
            self.layer(name).reset()
