"""Rows of networks that people deploy: inverted residuals, ResNet-18, and a single small layer."""

from __future__ import annotations

import copy

import torch
from packed_peers import onnx_calls
from packed_timing import FLOAT, OURS, Call, Table
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.layers import QuantLinear
from ste_lightning.models.networks import ResNet18

LSQ = {"map": "lsq", "bits": 4}
EIGHT = {"map": "lsq", "bits": 8}
POLICIES = {
    "W1A1": {"weight": "sign", "input": "sign"},
    "W4A4": {"weight": LSQ, "input": {**LSQ, "signed": None}},
    "W8A8": {"weight": EIGHT, "input": {**EIGHT, "signed": None}},
}
# channels after a block, its stride; MobileNetV2's first stages at half the strides
BLOCKS = ((16, 1), (24, 1), (24, 1), (32, 2), (32, 1), (64, 2), (64, 1), (96, 1), (160, 2))


class _Inverted(nn.Module):
    """Widen by six, convolve each channel, narrow; MobileNetV2's block."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = 6 * before
        self.layers = nn.Sequential(
            *(nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            *(nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after)),
        )
        self.short = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.short else y


def mobile() -> nn.Sequential:
    """Return a network like MobileNetV2 for 32x32x3."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)]
    before = 32
    for after, stride in BLOCKS:
        layers.append(_Inverted(before, after, stride))
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def family_rows(table: Table) -> None:
    """Time whole networks, packed, beside the float networks that they were made of."""
    kinds = {
        "MobileNetV2-like": mobile,
        "ResNet-18-like": lambda: ResNet18(weight_quantizer=None, input_quantizer=None),
    }
    for kind, make in kinds.items():
        for bits, policy in POLICIES.items():
            names = {rows: f"{bits} {kind} 32x32x3, batch {rows}" for rows in (1, 16)}
            if not any(map(table.wants, names.values())):
                continue
            plain = make().eval()
            network = copy.deepcopy(plain)
            quantize_(network, [{"match": "*", **policy}])
            network.train()(torch.randn(16, 3, 32, 32))
            packed = deploy.pack(network.eval())
            for rows, name in names.items():
                if not table.wants(name):
                    continue
                x = torch.randn(rows, 3, 32, 32)
                calls: dict[str, Call] = {
                    OURS: lambda x=x, packed=packed: packed(x),
                    f"{FLOAT} torch": lambda x=x, plain=plain: plain(x),
                }
                table.row(name, 0.0, calls)


def small_rows(table: Table) -> None:
    """Time a network of one layer, whose calls cost more than its products."""
    name = "W1A1 network of one layer, 1024, batch 1"
    if not table.wants(name):
        return
    layer = QuantLinear(1024, 1024, weight_quantizer="sign", input_quantizer="sign")
    plain = nn.Sequential(nn.Linear(1024, 1024)).eval()
    packed, x = deploy.pack(nn.Sequential(layer).eval()), torch.randn(1, 1024)
    calls: dict[str, Call] = {
        OURS: lambda: packed(x),
        f"{FLOAT} torch": lambda: plain(x),
        **onnx_calls(plain, x),
    }
    table.row(name, 2.0 * 1024**2, calls)
