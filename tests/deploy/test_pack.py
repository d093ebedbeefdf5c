"""A packed network computes what the trained one computes."""

import copy

import pytest
import torch
from packed_pairs import calls
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.fusion.bit_chain import Chain
from ste_lightning.deploy.fusion.float_thresholds import float_thresholds
from ste_lightning.deploy.fusion.set_thresholds import set_thresholds
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.report import interleaved_latency
from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import SIGNS
from ste_lightning.layers import BinaryConv2d, QuantConv1d, QuantConv2d, QuantLinear, RSign
from ste_lightning.models.networks import MLP, ConvNet
from ste_lightning.quantizers import Quantizer


def trained(network: nn.Module, *shape: int) -> nn.Module:
    """Batch norms with every sign of slope, and statistics of data."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    network.train()
    for _ in range(3):
        network(torch.randn(32, *shape))
    return network.eval()


NETWORKS = {
    "mlp": (lambda: MLP(hidden=(64, 96, 130)), (1, 8, 8)),
    "steps": (lambda: MLP(hidden=(64, 96, 130), input_quantizer="step"), (1, 8, 8)),
    "cnn": (lambda: ConvNet(channels=(8, 24, 40, 16), pool=(1,)), (1, 8, 8)),
    "scaled": (
        lambda: ConvNet(weight_quantizer={"map": "sign", "scale": "channel_mean"}),
        (1, 8, 8),
    ),
    "ternary": (
        lambda: ConvNet(
            weight_quantizer="ternary", input_quantizer={"map": "lsq", "bits": 2, "signed": False}
        ),
        (1, 8, 8),
    ),
    "w4a4": (
        lambda: MLP(
            hidden=(32, 32, 32),
            weight_quantizer={"map": "uniform", "bits": 4},
            input_quantizer={"map": "uniform", "bits": 4},
        ),
        (1, 8, 8),
    ),
    "tokens": (
        lambda: MLP(hidden=(32, 32, 32), input_quantizer={"map": "token", "bits": 8}),
        (1, 8, 8),
    ),
    "weights only": (lambda: ConvNet(input_quantizer=None), (1, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_equals_trained(name, tmp_path):
    make, shape = NETWORKS[name]
    network = trained(make(), *shape)
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(50, *shape)
    with torch.no_grad():
        expected = network(x)
    packed = deploy.pack(network)
    assert (packed(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert packed(x[:0]).shape == expected[:0].shape
    deploy.save(packed, tmp_path / "net.safetensors")
    assert torch.equal(deploy.load(tmp_path / "net.safetensors")(x), packed(x))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["mlp", "steps", "cnn"])
def test_binary_layers_agree_bit_by_bit(name):
    """Every input of every binary layer: the same bits with folded batch norms as without."""
    make, shape = NETWORKS[name]
    network = trained(make(), *shape)
    x = torch.randn(200, *shape)
    quantized = [m for m in network.modules() if isinstance(m, (QuantLinear, QuantConv2d))]
    seen = []
    handles = [
        module.register_forward_pre_hook(
            lambda m, args: seen.append(m.quantized_input(args[0]).clone())
        )
        for module in quantized
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    packed = deploy.pack(network)
    packed(x)
    assert any(isinstance(call, Chain) for call in calls(packed))
    layers = [m for m in packed.modules() if isinstance(m, deploy.PackedLayer)]
    got = []
    for module in layers:
        module.register_forward_pre_hook(
            lambda m, args: got.append(m.quantized_input(args[0]).clone())
        )
    packed(x)
    assert len(seen) == len(got) == len(quantized)
    assert all(torch.equal(a, b) for a, b in zip(seen, got, strict=True))


def test_pooling_between_sums_and_batch_norm_folds():
    network = trained(ConvNet(channels=(8, 16, 16), pool=(1,)), 1, 8, 8)
    packed = deploy.pack(network, torch.randn(2, 1, 8, 8))
    _, chain = calls(packed)  # the first convolution, and all else
    assert isinstance(chain, Chain)
    unfolded = calls(deploy.pack(network, torch.randn(2, 1, 8, 8), fold=False))
    assert len(unfolded) > 2


@pytest.mark.parametrize("name", ["sign", "step"])
def test_a_batch_norm_of_floats_is_a_threshold_on_floats(name):
    """Also for the floats next to where it changes, zeros, and constant channels."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).eval()
    norm.weight.data = torch.tensor([1.3, -0.7, 0.0, 0.0, 1e-3, -2.0])
    norm.bias.data = torch.tensor([0.2, 0.3, 0.5, -0.5, 0.0, 0.0])
    norm.running_mean[:4] = torch.randn(4)
    norm.running_var.uniform_(0.1, 3.0)
    plain = BinaryInput(name)
    packed = deploy.PackedLinear(BinaryInput(name), SIGNS, (3, 6))
    s, t, below = float_thresholds([norm], plain, 6, 2)
    set_thresholds(packed, s, t, below=below)
    near = torch.where(t[0].abs() < 1e30, s * t[0], 0.0)
    x = [torch.randn(500, 6), torch.zeros(1, 6), -torch.zeros(1, 6)]
    up, down = near, near
    for _ in range(8):
        up, down = up.nextafter(torch.tensor(9e9)), down.nextafter(torch.tensor(-9e9))
        x += [up[None], down[None]]
    values = torch.cat([*x, near[None], torch.full((1, 6), 3e38)])
    with torch.no_grad():
        expected = plain.encode(norm(values.T.reshape(1, 6, -1, 1)), 1)
    assert torch.equal(packed.input.encode(values.T.reshape(1, 6, -1, 1), 1), expected)
    assert expected.float().mean((0, 2, 3))[[0, 1, 4, 5]].sub(0.5).abs().max() < 0.4


@pytest.mark.parametrize("pad_value", [-1.0, 0.0, 1.0, 0.5])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_padding_groups_and_dilation(pad_value, mode):
    torch.manual_seed(0)
    pad = pad_value if mode == "zeros" else 0.0
    network = nn.Sequential(
        QuantConv2d(
            6, 12, (3, 2), (2, 1), padding=(2, 1), dilation=(1, 2), groups=3,
            pad_value=pad, padding_mode=mode,
        ),
        nn.Flatten(2),
        QuantConv1d(12, 12, 3, padding="same", groups=12, pad_value=pad),
    )  # fmt: skip
    x = torch.randn(3, 6, 9, 8)
    with torch.no_grad():
        expected = network(x)
    assert torch.allclose(deploy.pack(network)(x), expected, rtol=0, atol=1e-5)


class Residual(nn.Module):
    """A forward pass of its own, with a skip connection and functional calls."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv = BinaryConv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.threshold = RSign(16)
        self.pointwise = QuantConv2d(16, 32, 1, input_quantizer=None)
        self.head = nn.Linear(32, 5)

    def forward(self, x, scale: float = 1.0):
        x = torch.relu(self.stem(x) * scale)
        x = x + self.norm(self.conv(x - 0.1))
        x = self.pointwise(self.threshold(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_any_traceable_module(tmp_path):
    torch.manual_seed(0)
    network = Residual().eval()
    x = torch.randn(4, 3, 7, 7)
    with torch.no_grad():
        expected = network(x)
    packed = deploy.pack(network, info={"classes": list("abcde")})
    assert torch.allclose(packed(x), expected, atol=1e-5)
    deploy.save(packed, tmp_path / "r.safetensors")
    loaded = deploy.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded(x), packed(x))
    assert loaded.info == {"classes": list("abcde")}


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = QuantLinear(4, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_runs_but_is_not_saved(tmp_path):
    network = Branching()
    packed = deploy.pack(network)
    x = torch.rand(3, 4)
    with pytest.warns(UserWarning, match=r"test_pack.py.*x.sum\(\) > 0"):
        y = packed(x)
    with torch.no_grad():
        assert torch.equal(y, network(x))
        assert torch.equal(packed(-x), network(-x))
    with pytest.raises(ConfigurationError, match="cannot be saved"):
        deploy.save(packed, tmp_path / "b.safetensors")


def test_refusals_name_the_layer_and_the_reason():
    with pytest.raises(ConfigurationError, match="no quantized layer"):
        deploy.pack(nn.Linear(2, 2))
    dynamic = nn.Sequential(
        QuantLinear(4, 4, input_quantizer={"map": "sign", "scale": "tensor_mean"})
    )
    with pytest.raises(ConfigurationError, match=r"^0 cannot be packed.*depends on the input"):
        deploy.pack(dynamic)
    with pytest.raises(ConfigurationError, match="weights are float"):
        deploy.pack(nn.Sequential(QuantLinear(4, 4, weight_quantizer=None)))
    with pytest.raises(ConfigurationError, match="floats"):
        deploy.pack(nn.Sequential(QuantLinear(4, 4)), floats="float8")


@pytest.mark.parametrize("sample", [torch.zeros(2, 63), torch.zeros(2, 64).numpy(), [1, 2]])
def test_a_sample_that_the_network_does_not_take_is_refused(sample):
    binary = QuantLinear(8, 4, weight_quantizer="sign", input_quantizer="sign")
    network = nn.Sequential(nn.Linear(64, 8), binary)
    with pytest.raises(ConfigurationError, match="sample cannot be used: the packed Sequential"):
        deploy.pack(network.eval(), sample)


def test_packed_modules_stay_in_evaluation():
    packed = deploy.pack(nn.Sequential(QuantLinear(4, 4)))
    with pytest.raises(ConfigurationError, match="evaluation"):
        packed.train()
    with pytest.raises(ConfigurationError, match="channels"):
        packed(torch.zeros(2, 5))
    with pytest.raises(TypeError, match="takes"):
        packed(torch.zeros(2, 4), 1)
    twin = copy.deepcopy(packed)
    x = torch.randn(3, 4)
    assert torch.equal(twin(x), packed(x))


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_float_layers_in_fewer_bits(precision, tmp_path):
    network = trained(ConvNet(channels=(8, 16, 16)), 1, 8, 8)
    x = torch.randn(20, 1, 8, 8)
    small = deploy.pack(network, floats=precision)
    with torch.no_grad():
        expected = network(x)
    assert (small(x) - expected).abs().mean() < 0.2 * expected.abs().mean()
    sizes = [
        deploy.save(deploy.pack(network), tmp_path / "a.safetensors"),
        deploy.save(small, tmp_path / "b.safetensors"),
    ]
    assert sizes[1] < sizes[0]
    assert torch.equal(deploy.load(tmp_path / "b.safetensors")(x), small(x))


STAIRCASES = [
    {"map": "uniform", "bits": 3},
    {"map": "lsq", "bits": 4, "signed": True},
    {"map": "lsq", "bits": 1},
    {"map": "uniform", "bits": 1, "symmetric": False},
    {"map": "pact", "bits": 4},
    {"map": "uniform", "bits": 8},
]


@pytest.mark.parametrize("spec", STAIRCASES, ids=str)
def test_thresholds_round_as_the_quantizer(spec):
    """Also at the transitions themselves, and one float beside them."""
    torch.manual_seed(0)
    layer = QuantLinear(40, 8, input_quantizer=spec)
    layer.train()
    layer(torch.randn(64, 40))
    packed = deploy.pack(nn.Sequential(layer.eval()))
    quantizer = packed.layer("0").input
    assert isinstance(quantizer, (BinaryInput, LevelsInput))
    t = quantizer.thresholds[0] if isinstance(quantizer, LevelsInput) else -quantizer.offset[:1]
    near = torch.cat([t, t.nextafter(torch.tensor(9.0)), t.nextafter(torch.tensor(-9.0))])
    x = torch.cat([near, torch.randn(4000), torch.tensor([0.0, -0.0, 1e30, -1e30])])
    x = x[: len(x) // 40 * 40].view(-1, 40)
    with torch.no_grad():
        assert torch.allclose(packed(x), layer(x), rtol=1e-5, atol=1e-5)
        levels, _ = layer.input_quantizer.integer_levels(x)
    codes = quantizer.encode(x, 1).int() * quantizer.codes.step + quantizer.codes.offset
    assert torch.equal(codes, levels.int())


class Dented(Quantizer):
    """A sign that is -1 once more, beyond all thresholds."""

    bits = 1

    def quantize(self, x):
        return self.integer_levels(x)[0].to(x.dtype)

    def integer_levels(self, x):
        return torch.where((x < 0) | ((x > 1.2) & (x < 1.8)), -1, 1), torch.ones(())


def test_what_falls_again_is_no_staircase():
    with pytest.raises(ConfigurationError, match="Dented is not a rising staircase"):
        deploy.pack(nn.Sequential(QuantLinear(4, 4, input_quantizer=Dented())))


def test_every_function_is_called_once_before_any_is_timed():
    calls = []
    assert len(interleaved_latency([lambda: calls.append(0), lambda: calls.append(1)], 0)) == 2
    assert calls == [0, 1] * 6
