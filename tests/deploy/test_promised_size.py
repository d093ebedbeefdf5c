"""Files are as large as the summary promises, for the kinds of networks that people deploy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from ste_lightning import deploy
from ste_lightning.convert import quantize_, summary


def inverted(inputs, outputs, stride):
    wide = 4 * inputs
    return [
        *(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
        nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
        *(nn.BatchNorm2d(wide), nn.ReLU6()),
        *(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
    ]


def mobilenet():
    blocks = [*inverted(16, 24, 1), *inverted(24, 24, 1), *inverted(24, 48, 2)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), *blocks, *pool, nn.Linear(48, 10))
    return net, torch.randn(2, 3, 16, 16)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.a, self.b = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.b(self.second(self.relu(self.a(self.first(x))))) + self.short(x))


def resnet():
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), *blocks, *pool, nn.Linear(64, 10))
    return net, torch.randn(2, 3, 16, 16)


class Block(nn.Module):
    """A transformer block as people write it."""

    def __init__(self, width, causal) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.causal = causal

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.before(x)).view(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 64))
        self.place = nn.Parameter(torch.randn(1, 17, 64))
        self.blocks = nn.Sequential(Block(64, False), Block(64, False))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class Language(nn.Module):
    """The head is the table of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(100, 64), nn.Embedding(32, 64)
        self.blocks = nn.Sequential(Block(64, True), Block(64, True))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 100, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, i):
        x = self.tokens(i) + self.places(torch.arange(i.shape[1], device=i.device))
        return self.head(self.norm(self.blocks(x)))


def keywords():
    layers = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False), nn.BatchNorm2d(64)]
        layers += [nn.ReLU(), nn.Conv2d(64, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)]
    return nn.Sequential(*layers), torch.randn(2, 1, 49, 10)


def normed():
    """Most of the weights are computed: by weight norm, spectral norm, a pruning mask."""
    net = nn.Sequential(*(nn.Linear(96, 96) for _ in range(5)), nn.Linear(96, 10))
    parametrizations.weight_norm(net[1])
    parametrizations.spectral_norm(net[2])
    prune.l1_unstructured(net[3], "weight", 0.5)
    parametrizations.weight_norm(net[5])
    return net, torch.randn(2, 96)


NETWORKS = {
    "mobilenet": mobilenet,
    "resnet": resnet,
    "vision transformer": lambda: (Vision(), torch.randn(2, 3, 16, 16)),
    "language model": lambda: (Language(), torch.randint(0, 100, (2, 16))),
    "keyword spotting": keywords,
    "norms and masks of weights": normed,
}
LSQ = {"map": "lsq", "bits": 4}
POLICIES = {
    "W4A4": {"weight": LSQ, "input": {**LSQ, "signed": None}},
    "W1.58A8": {"weight": "ternary", "input": {"map": "uniform", "bits": 8}},
}


@pytest.mark.parametrize("bits", POLICIES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_file_is_as_large_as_promised(kind, bits, tmp_path) -> None:
    torch.manual_seed(0)
    net, x = NETWORKS[kind]()
    quantize_(net, [{"match": "*", **POLICIES[bits]}])
    net.train()(x)
    net.eval()
    promised = summary(net).deployed_bytes
    packed = deploy.pack(net, x)
    size = deploy.save(packed, tmp_path / "net.safetensors")
    assert size <= 1.05 * promised + 8192 + 64 * len(packed.graph.steps)
    assert size >= 0.6 * promised
    loaded = deploy.load(tmp_path / "net.safetensors")
    other = torch.cat([x, x, x])
    assert torch.allclose(loaded(other), packed(other), atol=1e-5)
    with torch.no_grad():
        wanted = net(other)
    assert (loaded(other) - wanted).abs().mean() < 0.01 * wanted.abs().max()
