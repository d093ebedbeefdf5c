"""Time warm calls of packed networks, and what following a graph costs beside its operators.

``python benchmarks/graph_calls.py``: each network's call beside that of its packed module, whose
Python code calls the same layers one by one. ``--before DIR``, a checkout of another version, adds
its calls: both versions run as processes of their own in turns, and medians over the turns are
compared. One thread; times of the process, not of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from packed_networks import low_bit_network, network
from packed_timing import Call, rounds
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.layers import QuantLinear
from ste_lightning.models.networks import ConvNet

NODES = 400


class Chain(nn.Module):
    """Small operators one after the other, and a packed layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = QuantLinear(8, 8, weight_quantizer="sign", input_quantizer="sign")

    def forward(self, x: Tensor) -> Tensor:
        """Return the last result."""
        y = self.layer(x)
        for _ in range(NODES // 4):
            y = torch.relu(torch.mul(torch.sub(torch.add(y, x), x), 0.5))
        return y


def mlp(width: int = 512) -> nn.Sequential:
    """Return a binary MLP for 8x8 images."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width)]
    for _ in range(2):
        layers += [nn.BatchNorm1d(width)]
        layers += [QuantLinear(width, width, weight_quantizer="sign", input_quantizer="sign")]
    return nn.Sequential(*layers, nn.BatchNorm1d(width), nn.Linear(width, 10)).eval()


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Return the networks of this folder's benchmarks with inputs."""
    image = torch.randn(1, 3, 32, 32)
    return {
        "binary MLP 512, batch 1": (mlp(), torch.randn(1, 1, 8, 8)),
        "CNN of digits_cnn, batch 1": (ConvNet().eval(), torch.randn(1, 1, 8, 8)),
        "BNN CNN 32x32x3, batch 1": (network(), image),
        "BNN CNN 32x32x3, batch 16": (network(), torch.randn(16, 3, 32, 32)),
        "W2A2 CNN 32x32x3, batch 1": (low_bit_network(2), image),
        "W4A4 CNN 32x32x3, batch 1": (low_bit_network(4), image),
    }


def calls(seconds: float) -> dict[str, tuple[float, float]]:
    """Return each network's seconds of a call, and of its module's call."""
    found = {}
    for name, (net, x) in networks().items():
        packed = deploy.pack(net)
        packed(x)
        both: dict[str, Call] = {"graph": lambda p=packed, x=x: p(x)}
        both["module"] = lambda m=packed.module, x=x: m(x)
        times = rounds(both, seconds)
        found[name] = tuple(statistics.median(times[key]) for key in both)
    return found


def node() -> float:
    """Return the seconds that a node costs beside its operator, called by Python."""
    x = torch.randn(1, 8)
    packed = deploy.pack(Chain().eval(), x)
    module, graph = packed.module, packed
    times = rounds({"graph": lambda: graph(x), "module": lambda: module(x)}, 2.0)
    pairs = zip(times["graph"], times["module"], strict=True)
    return statistics.median(a - b for a, b in pairs) / NODES


def turn(folder: Path, seconds: float) -> dict[str, tuple[float, float]]:
    """Return :func:`calls` of the version in a folder, by a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--json", "--seconds", str(seconds)]
    answer = subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True)
    found: dict[str, tuple[float, float]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each network and turn")
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--turns", type=int, default=3, help="with --before")
    parser.add_argument("--json", action="store_true", help="print the times alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    if given.json:
        print(json.dumps(calls(given.seconds)))
        return
    if given.before is None:
        print("| network | graph, us | its module, us | ratio |\n|---|---|---|---|")
        for name, (graph, module) in calls(given.seconds).items():
            print(f"| {name} | {graph * 1e6:.1f} | {module * 1e6:.1f} | {graph / module:.2f} |")
    else:
        here, there = Path(__file__).resolve().parent.parent, given.before.resolve()
        both = [(turn(here, given.seconds), turn(there, given.seconds)) for _ in range(given.turns)]
        print("| network | now, us | before, us | ratio |\n|---|---|---|---|")
        for name in both[0][0]:
            now, before = (statistics.median(pair[i][name][0] for pair in both) for i in (0, 1))
            print(f"| {name} | {now * 1e6:.1f} | {before * 1e6:.1f} | {now / before:.2f} |")
    print(f"\na node costs {node() * 1e6:.2f} us beside its operator")


if __name__ == "__main__":
    main()
