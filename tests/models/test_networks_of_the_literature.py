"""ImageNet's low-bit networks and transformers: sizes as published, float twins, steps, packing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer
from ste_lightning.models.networks import (
    BinaryDenseNet28,
    CharacterModel,
    MeliusNet22,
    MobileNetV2,
    N2UQResNet18,
    QuickNet,
    ReActNet18,
    ReActNetA,
    SequenceClassifier,
    ViT,
    XNORNet,
)
from ste_lightning.quantizers import Quantizer

FLOAT = {"weight_quantizer": None, "input_quantizer": None}
TINY = {"width": 16, "depth": 1, "heads": 2}


def products(made, *size):
    """Multiply-accumulates of one image on the meta device: quantized, float."""
    found = {True: 0, False: 0}

    def add(layer, args, output):
        quantized = isinstance(layer, QuantizedLayer) and layer.weight_quantizer is not None
        found[quantized] += output[0].numel() * math.prod(layer.weight.shape[1:])

    with torch.device("meta"):
        network = made().eval()
        for layer in network.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.register_forward_hook(add)
            if isinstance(layer, QuantizedLayer):
                layer.weight_quantization = layer.input_quantization = False
        network(torch.empty(1, *size))
    return found[True], found[False]


def counted(made, *, statistics=False):
    """All parameters without those of quantizers; with batch norm's statistics, as Keras counts."""
    with torch.device("meta"):
        network = made()
    own = {p for m in network.modules() if isinstance(m, Quantizer) for p in m.parameters()}
    count = sum(p.numel() for p in network.parameters() if p not in own)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return count + statistics * sum(2 * norm.num_features for norm in norms)


def test_sizes_are_those_of_larqs_zoo():
    """The tables in larq_zoo's documentation, which do not all count batch norm's statistics."""
    assert counted(BinaryDenseNet28, statistics=True) == 5_150_504
    assert counted(MeliusNet22) == 6_944_584
    # there those of the one batch norm without factors count
    assert counted(QuickNet) + 2 * 16 == 13_234_088
    assert counted(lambda: QuickNet(blocks=(6, 8, 12, 6))) + 2 * 16 == 23_342_248
    assert counted(lambda: QuickNet(widths=(32, 64, 256, 512))) + 2 * 8 == 12_655_688
    factors = 96 + 96 + 256 + 384 + 384 + 256 + 4096 + 4096  # its batch norms have offsets only
    assert counted(XNORNet, statistics=True) - factors == 62_396_768


def test_products_are_those_of_the_papers():
    image = (3, 224, 224)
    # ReActNet, table 2: 4.82e9 binary and 0.12e8 float; ReActNet-18 as Bi-Real Net-18
    binary, real = products(ReActNetA, *image)
    assert (round(binary / 1e9, 2), round(real / 1e8, 2)) == (4.82, 0.12)
    binary, real = products(ReActNet18, *image)
    assert round(binary / 1e9, 2) == 1.68
    assert real == pytest.approx(1.39e8, rel=0.01)
    # MeliusNet, table 3
    binary, real = products(MeliusNet22, *image)
    assert round(binary / 1e9, 2) == 4.62
    assert real == pytest.approx(1.35e8, rel=0.015)
    # the same table: 2.58e8 operations, a binary one counted as 1/64
    binary, real = products(BinaryDenseNet28, *image)
    assert binary / 64 + real == pytest.approx(2.58e8, rel=0.01)
    # Sandler et al., table 4: 300 million, 3.4 million parameters
    assert sum(products(MobileNetV2, *image)) == pytest.approx(300e6, rel=0.01)
    assert counted(MobileNetV2) == 3_504_872  # torchvision's
    # ResNet-18: 1.8e9, all but the first convolution and the last layer in 2 bits
    quantized, real = products(N2UQResNet18, *image)
    assert quantized + real == pytest.approx(1.814e9, rel=0.001)
    assert real == 118_013_952 + 512_000
    # Touvron et al., table 1: 5.7 million parameters
    tiny = {"image": image, "classes": 1000, "patch": 16, "width": 192, "depth": 12}
    assert counted(lambda: ViT(**tiny)) == pytest.approx(5.7e6, rel=0.01)


CASES = [
    (CharacterModel, {**TINY, "vocabulary": 11, "length": 6}, (6,)),
    (
        CharacterModel,
        {
            **TINY,
            "vocabulary": 11,
            "length": 6,
            "weight_quantizer": "sign",
            "input_quantizer": "sign",
        },
        (6,),
    ),
    (SequenceClassifier, {**TINY, "vocabulary": 11, "length": 6, "classes": 3}, (6,)),
    (ViT, {**TINY, "image": (1, 8, 8), "classes": 3}, (1, 8, 8)),
    (ReActNet18, {"image_channels": 1, "classes": 3, "large": False, "width": 8}, (1, 16, 16)),
    (ReActNetA, {"image_channels": 1, "classes": 3, "width": 4}, (1, 32, 32)),
    (N2UQResNet18, {"image_channels": 1, "classes": 3, "large": False, "width": 8}, (1, 16, 16)),
    (
        QuickNet,
        {"image_channels": 1, "classes": 3, "blocks": (1, 1, 1, 1), "widths": (8, 16, 24, 32)},
        (1, 64, 64),
    ),
    (BinaryDenseNet28, {"image_channels": 1, "classes": 3, "large": False}, (1, 8, 8)),
    (MeliusNet22, {"image_channels": 1, "classes": 3, "large": False}, (1, 8, 8)),
    (MobileNetV2, {"image_channels": 1, "classes": 3, "large": False, "dropout": 0.0}, (1, 16, 16)),
    (XNORNet, {"image_channels": 1, "classes": 3, "width": 1 / 64}, (1, 224, 224)),
]


IDS = [f"{m.__name__}-{i}" for i, (m, *_) in enumerate(CASES)]
SMALL = 4  # packing the others takes seconds each


def stepped(made, options, size):
    torch.manual_seed(0)
    network = made(**options)
    x = torch.randint(0, 11, (4, *size)) if len(size) == 1 else torch.randn(4, *size)
    logits = network(x)
    target = torch.randint(0, 3, logits.shape[:-1])
    nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten()).backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    layers = [m for m in network.modules() if isinstance(m, QuantizedLayer)]
    assert all(layer.weight.grad.abs().sum() > 0 for layer in layers)
    with torch.no_grad():
        for p in trained:
            p -= 0.01 * p.grad
    return network.eval(), x


@pytest.mark.parametrize(("made", "options", "size"), CASES, ids=IDS)
def test_a_network_trains_a_step_and_has_a_float_twin(made, options, size):
    network, x = stepped(made, options, size)
    twin = made(**{**options, **FLOAT}).eval()
    state = network.state_dict()
    twin.load_state_dict({key: state[key] for key in twin.state_dict()})
    assert all(
        m.weight_quantizer is m.input_quantizer is None
        for m in twin.modules()
        if isinstance(m, QuantizedLayer)
    )
    with torch.no_grad():
        assert twin(x).shape == network(x).shape


@pytest.mark.parametrize(
    ("made", "options", "size"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if index >= SMALL else [])
        for index, (case, name) in enumerate(zip(CASES, IDS, strict=True))
    ],
)
def test_a_network_equals_its_packed_copy(made, options, size):
    network, x = stepped(made, options, size)
    packed = deploy.pack(network, x)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), network(x), atol=1e-4, rtol=1e-4)


def test_a_character_sees_only_what_stands_before_it():
    network = CharacterModel(7, 5, **TINY).eval()
    first, second = torch.randint(0, 7, (2, 1, 5))
    second[:, :3] = first[:, :3]
    with torch.no_grad():
        torch.testing.assert_close(network(first)[:, :3], network(second)[:, :3])
        assert not torch.equal(network(first)[:, 3:], network(second)[:, 3:])
    assert network(first[:, :2]).shape == (1, 2, 7)


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (CharacterModel, {"heads": 3}, "divisor of width=128"),
        (CharacterModel, {"depth": 0}, "depth"),
        (CharacterModel, {"vocabulary": 1}, "two or more"),
        (ViT, {"patch": 5}, "divisor of the image"),
        (ViT, {"image": (3, 32)}, "channels, height, width"),
        (QuickNet, {"blocks": (1, 2)}, "equally many"),
        (XNORNet, {"width": 2}, "factor"),
        (ReActNetA, {"classes": 1}, "two or more"),
        (MobileNetV2, {"image_channels": 0}, "positive integer"),
    ],
)
def test_networks_that_cannot_be_are_refused(made, options, words):
    with pytest.raises(ConfigurationError, match=words):
        made(**options)
