"""Families of networks as people write them: trained, packed, saved and loaded alike."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_, summary


def conv(i, o, kernel=3, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(o), act())


class Residual(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.one, self.two = conv(i, o, 3, stride), conv(o, o, 3, act=nn.Identity)
        self.short = conv(i, o, 1, stride, act=nn.Identity)

    def forward(self, x):
        return F.relu(self.two(self.one(x)) + self.short(x), inplace=True)


class Inverted(nn.Module):
    """MobileNetV3's block: depthwise, squeeze and excitation, hard swish."""

    def __init__(self, i, o, act=nn.Hardswish):
        super().__init__()
        self.expand, self.depth = (
            conv(i, 3 * i, 1, act=act),
            conv(3 * i, 3 * i, groups=3 * i, act=act),
        )
        self.squeeze = nn.Sequential(nn.Conv2d(3 * i, i, 1), nn.ReLU(), nn.Conv2d(i, 3 * i, 1))
        self.project = conv(3 * i, o, 1, act=nn.Identity)

    def forward(self, x):
        y = self.depth(self.expand(x))
        y = y * F.hardsigmoid(self.squeeze(F.adaptive_avg_pool2d(y, 1)))
        return self.project(y) + x


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 8, 3, padding=1, bias=False))
            for n in (8, 16, 24)
        )

    def forward(self, x):
        for part in self.parts:
            x = torch.cat([x, part(x)], 1)
        return F.avg_pool2d(x, 2)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep, self.up = conv(8, 8), conv(8, 16), nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = nn.Conv2d(16, 8, 1)

    def forward(self, x):
        y = self.down(x)
        z = self.up(self.deep(F.max_pool2d(y, 2)))
        z = F.interpolate(z, size=y.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([y, z], 1))


class Next(nn.Module):
    """ConvNeXt's block: layer norm over channels that come last, a scale per channel."""

    def __init__(self):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x):
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(F.gelu(self.wide(y)))).permute(0, 3, 1, 2)


def images(*body, channels=8):
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *body, *head)


class Attention(nn.Module):
    def __init__(self, width, causal):
        super().__init__()
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)
        )
        self.causal = causal

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).view(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(x)


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.place, self.block = nn.Parameter(torch.randn(1, 17, 16)), Attention(16, False)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.block(x)[:, 0])


class GPT(nn.Module):
    """A decoder whose head is its table of tokens."""

    def __init__(self):
        super().__init__()
        self.table, self.place = nn.Embedding(40, 16), nn.Embedding(32, 16)
        self.block, self.head = Attention(16, True), nn.Linear(16, 40, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.block(self.table(ids) + self.place(places)))


class Keywords(nn.Module):
    """Depthwise separable convolutions over time, then a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.depth, self.point = nn.Conv1d(10, 10, 5, 2, 2, groups=10), nn.Conv1d(10, 16, 1)
        self.norm, self.cell, self.head = (
            nn.BatchNorm1d(16),
            nn.GRU(16, 12, batch_first=True),
            nn.Linear(12, 4),
        )
        self.hidden = nn.Linear(12, 12)

    def forward(self, x):
        x = F.relu(self.norm(self.point(self.depth(x))))
        _, h = self.cell(x.transpose(1, 2))
        return self.head(torch.tanh(self.hidden(h[-1])))


class Sentences(nn.Module):
    """Two directions of an LSTM over a table of tokens."""

    def __init__(self):
        super().__init__()
        self.table, self.cell = nn.Embedding(40, 12), nn.LSTM(12, 8, 2, bidirectional=True)
        self.hidden, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, ids):
        x, (h, _) = self.cell(self.table(ids).transpose(0, 1))
        return self.head(F.relu(self.hidden(x.mean(0))) + h[-2:].transpose(0, 1).flatten(1))


def pictures(size=16):
    return lambda n, more=0: torch.randn(n, 3, size + more, size + 2 * more)


FAMILIES = {
    "resnet": (lambda: images(Residual(8, 16, 2), Residual(16, 16, 1), channels=16), pictures(), 3),
    "mobilenet": (lambda: images(Inverted(8, 8), Inverted(8, 8, nn.ReLU6)), pictures(), 3),
    "densenet": (lambda: images(Dense(), channels=32), pictures(), 2),
    "unet": (lambda: images(UNet()), pictures(), 4),
    "convnext": (lambda: images(Next()), pictures(), 3),
    "vit": (ViT, pictures(), 0),
    "gpt": (GPT, lambda n, more=0: torch.randint(0, 40, (n, 7 + more)), 3),
    "sentences": (Sentences, lambda n, more=0: torch.randint(0, 40, (n, 7 + more)), 3),
    "keywords": (Keywords, lambda n, more=0: torch.randn(n, 10, 20 + more), 6),
}
LSQ = [
    {
        "match": "*",
        "weight": {"map": "lsq", "bits": 4},
        "input": {"map": "lsq", "bits": 4, "signed": None},
    }
]
POLICIES = {
    "W4A4": LSQ,
    "W1A1": [{"match": "*", "weight": "sign", "input": "sign"}],
    "W1.58A8": [{"match": "*", "weight": "bitnet", "input": "token"}],
}
CASES = [
    pytest.param(f, p, marks=[] if p == ("W4A4", "W1A1")[i % 2] else [pytest.mark.slow])
    for i, f in enumerate(FAMILIES)
    for p in POLICIES
    if not (f in ("gpt", "sentences", "keywords") and p == "W1A1")
] + [pytest.param("sentences", "W4A4"), pytest.param("gpt", "W1.58A8")]


@pytest.mark.parametrize(("family", "policy"), CASES)
def test_families(family, policy, tmp_path):
    torch.manual_seed(0)
    make, sample, more = FAMILIES[family]
    network = make()
    quantize_(network, POLICIES[policy])
    network.train()
    for _ in range(2):
        network(sample(4))
    network.eval()
    packed = deploy.pack(network, sample(2))
    assert packed.graph is not None
    size = deploy.save(packed, tmp_path / "net.safetensors")
    promised = summary(network).deployed_bytes
    assert size <= 1.05 * promised + 8192 + 64 * len(packed.graph.steps)
    loaded = deploy.load(tmp_path / "net.safetensors")
    for x in (sample(2), sample(0), sample(1), sample(7), sample(2, more)):
        with torch.no_grad():
            wanted = network(x)
        found = loaded(x)
        assert torch.allclose(packed(x), found, rtol=1e-5, atol=1e-5)
        assert found.shape == wanted.shape
        assert float((found - wanted).norm()) <= 1e-3 * float(wanted.norm()) + 1e-6
