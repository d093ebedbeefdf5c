"""Networks in C give what the packed ones give: here, and where cross compilers are installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from quantizer_pairs import LSQ, PAIRS
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.export import export, runtime
from ste_lightning.deploy.export.c.native import FLAGS
from ste_lightning.deploy.export.c.program import Program, Stored
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvTranspose2d,
    QuantLinear,
)

BITS_4 = {"map": "uniform", "bits": 4}
QUANTIZERS = {
    **PAIRS,
    "3 x 8 bit": ({"map": "uniform", "bits": 3}, {"map": "uniform", "bits": 8}),
    "1 x 5 bit": ("sign", {"map": "uniform", "bits": 5}),
    "4-bit weights only": (BITS_4, None),
}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)


def trained(net: nn.Module, *shape: int) -> nn.Module:
    """Give scales and batch norms something to remember."""
    net.train()
    for _ in range(3):
        net(torch.randn(16, *shape))
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight)  # some thresholds fall
            nn.init.normal_(module.bias)
    return net.eval()


class Bits(nn.Module):
    """Signs and steps between layers, through poolings, a flattening and to several readers."""

    def __init__(self):
        super().__init__()
        signs = {"weight_quantizer": "sign", "input_quantizer": "sign"}
        self.first = QuantConv2d(2, 40, 3, padding=1, pad_value=1.0, bias=False, **signs)
        self.norm = nn.BatchNorm2d(40)
        self.left = QuantConv2d(40, 9, 3, padding=1, **signs)  # padded with 0, which no bit holds
        self.right = QuantConv2d(40, 32, (1, 3), stride=(1, 2), dilation=(1, 2), **signs)
        self.after = nn.BatchNorm2d(9)
        self.steps = QuantConv2d(9, 5, 2, weight_quantizer="sign", input_quantizer="step")
        self.last = QuantLinear(30 + 32 * 4, 7, **signs)

    def forward(self, x):
        x = self.norm(F.max_pool2d(self.first(x), 3, 2, 1))
        left = self.steps(self.after(F.max_pool2d(self.left(x), (1, 2), ceil_mode=True)))
        return self.last(torch.cat([self.right(x).flatten(1), left.flatten(1)], 1))


class Operators(nn.Module):
    """Float operators around packed layers of several bits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding="same")
        self.depthwise = QuantConv2d(
            8, 8, 3, padding=1, groups=8, weight_quantizer=BITS_4, input_quantizer=LSQ, bias=False
        )
        self.norm, self.slopes = nn.BatchNorm2d(8), nn.PReLU(8)
        self.grouped = QuantConv2d(
            8, 12, 3, stride=2, groups=2, weight_quantizer="ternary", input_quantizer=BITS_4
        )
        self.rows = QuantLinear(9, 6, weight_quantizer="bitnet", input_quantizer="token")
        self.scale = nn.Parameter(torch.randn(12, 1, 1))
        self.layer_norm = nn.LayerNorm(6)
        self.gate, self.head = nn.Linear(6, 6), nn.Linear(12 * 6, 5)

    def forward(self, x):
        x = self.stem(x)
        x = self.slopes(self.norm(self.depthwise(x)) + x)
        x = F.pad(F.avg_pool2d(x, 3, 1, 1) - F.silu(x), (1, 0))
        x = self.grouped(F.max_pool2d(F.hardswish(x), 2, 1)) * self.scale
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        x = self.layer_norm(self.rows(x.flatten(2)))
        x = F.gelu(x) * torch.tanh(self.gate(x)) - x.clamp(-0.5, 0.5) / 3
        x = torch.cat([F.elu(x), x.abs()], 1).transpose(1, 2)
        x = F.adaptive_max_pool1d(x.exp(), 12)
        return F.log_softmax(self.head(x.flatten(1)), 1)


CASES = {
    "bits": (lambda: Bits(), (2, 7, 10)),
    "operators": (lambda: Operators(), (2, 8, 7)),
    "speech": (
        lambda: nn.Sequential(
            QuantConv1d(4, 8, 5, stride=2, weight_quantizer=BITS_4, input_quantizer=None),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            QuantConv1d(8, 8, 3, groups=8, weight_quantizer="sign", input_quantizer=LSQ),
            nn.BatchNorm1d(8),
            QuantConv1d(8, 16, 1, weight_quantizer=LSQ, input_quantizer=LSQ),
            nn.MaxPool1d(2),
            nn.Flatten(),
            QuantLinear(16 * 5, 3, weight_quantizer={"map": "uniform", "bits": 8},
                        input_quantizer={"map": "uniform", "bits": 8}),
        ),
        (4, 30),
    ),
}  # fmt: skip


def case(name: str, floats: str = "float32"):
    torch.manual_seed(0)
    make, shape = CASES[name]
    x = torch.randn(9, *shape)
    return deploy.pack(trained(make(), *shape), x, floats=floats), x


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_c_gives_what_the_packed_network_gives(name, tmp_path):
    network, x = case(name, "int8" if name == "operators" else "float32")
    path = export(network, tmp_path / "net.c", "c", x)
    y = network(x)
    assert (y.std(0) > 1e-3).any()
    assert (runtime(path, "c")(x) - y).abs().max() <= 1e-5 * max(1.0, float(y.abs().max()))


@needs_compiler
def test_the_first_of_several_results_may_be_the_output(tmp_path):
    network = nn.Sequential(QuantLinear(6, 8), nn.AdaptiveMaxPool1d(2))
    x = torch.randn(9, 3, 6)
    packed = deploy.pack(network.eval(), x)
    run = runtime(export(packed, tmp_path / "net.c", "c", x), "c")
    assert torch.allclose(run(x), packed(x), atol=1e-5)


@needs_compiler
def test_rows_of_a_float_layer_follow_those_of_a_packed_one(tmp_path):
    tokens = {"weight_quantizer": "bitnet", "input_quantizer": "token"}
    network, x = nn.Sequential(QuantLinear(9, 6, **tokens), nn.Linear(6, 6)), torch.randn(9, 12, 9)
    packed = deploy.pack(trained(network, 12, 9), x)
    run = runtime(export(packed, tmp_path / "net.c", "c", x), "c")
    assert torch.allclose(run(x), packed(x), atol=1e-5)


class Ending(nn.Module):
    """A linear layer, and something after it."""

    def __init__(self, after):
        super().__init__()
        self.layer, self.after = QuantLinear(6, 4, input_quantizer="sign"), after

    def forward(self, x):
        return self.after(self.layer(x))


SIGNS = {"weight_quantizer": "sign", "input_quantizer": "sign"}
GROUPS = {"map": "uniform", "bits": 4, "group_size": 4}
REFUSED = {
    "cumsum": lambda: Ending(lambda y: y.cumsum(1)),
    "argmax": lambda: Ending(lambda y: y.argmax(1)),
    "chunk": lambda: Ending(lambda y: y.chunk(2, 1)[1]),
    "broadcast": lambda: Ending(lambda y: y.reshape(-1, 4, 1) + y.reshape(-1, 1, 4)),
    "constant": lambda: Ending(lambda y: torch.cat([y, torch.ones(len(y), 4)], 1)),
    "axes": lambda: Ending(lambda y: y.reshape(-1, 1, 4, 1).mean((1, 3))),
    "clamp.Tensor": lambda: Ending(lambda y: y.clamp(torch.zeros(4))),
    "div.Tensor_mode": lambda: Ending(lambda y: y.div(y, rounding_mode="floor")),
    "PackedConvTranspose": lambda: QuantConvTranspose2d(2, 3, 2, **SIGNS),
    "three-dimensional": lambda: QuantConv3d(2, 3, 2, **SIGNS),
    "padding_mode": lambda: QuantConv2d(2, 3, 3, padding=1, padding_mode="circular", **SIGNS),
    "fraction": lambda: QuantConv2d(2, 3, 3, padding=1, pad_value=0.3, **SIGNS),
    "tokens": lambda: QuantConv2d(2, 3, 3, weight_quantizer="bitnet", input_quantizer="token"),
    "scales": lambda: QuantConv2d(2, 3, 2, weight_quantizer=GROUPS),
}
SHAPES = {"QuantConv2d": (2, 5, 6), "QuantConvTranspose2d": (2, 5, 6), "QuantConv3d": (2, 4, 5, 6)}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_c_is_refused_by_name_before_anything_is_written(what, tmp_path):
    net = REFUSED[what]().eval()
    x = torch.randn(3, *SHAPES.get(type(net).__name__, (6,)))
    with pytest.raises(ConfigurationError, match=what):
        export(deploy.pack(nn.Sequential(net), x), tmp_path / "net.c", "c", x)
    assert not list(tmp_path.iterdir())


def test_other_arguments_are_refused_by_name(tmp_path):
    x = torch.randn(3, 6)
    packed = deploy.pack(Ending(nn.Identity()), x)
    with pytest.raises(ConfigurationError, match=r"NAME\.c"):
        export(packed, tmp_path / "net.h", "c", x)
    pair = deploy.pack(Ending(lambda y: (y, y)), x)
    with pytest.raises(ConfigurationError, match="one float32 tensor"):
        export(pair, tmp_path / "net.c", "c", x)
    assert not list(tmp_path.iterdir())


def test_the_same_network_is_the_same_text_in_every_process():
    program, names = Program(), [f"array_{i}" for i in range(12)]
    for i, name in enumerate(names):
        program.array(name, np.full(3, i, np.uint8))
    program.add("first", "", [], "y", Stored("floats", 1, 1, 1), "")
    assert program.operations[0].arrays == tuple(names)  # in no order of hashes


@needs_compiler
def test_any_name_of_a_file_is_a_name_in_c(tmp_path):
    x = torch.randn(3, 6)
    packed = deploy.pack(Ending(nn.Softmax(1)), x)
    for name in ("float", "softmax", "3 layers-net.c", "main.c"):
        path = export(packed, tmp_path / name, "c", x)
        assert torch.allclose(runtime(path, "c")(x), packed(x), atol=1e-6)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        runtime(path, "c")(torch.randn(3, 5))
    path.write_text("int main(void) { return x; }")
    with pytest.raises(ConfigurationError, match="does not compile"):
        runtime(path, "c")


def test_nothing_runs_without_a_compiler(tmp_path, monkeypatch):
    x = torch.randn(3, 6)
    path = export(deploy.pack(Ending(nn.Identity()), x), tmp_path / "net.c", "c", x)
    monkeypatch.setenv("PATH", "")
    assert runtime(path, "c") is None
    assert "RAM" in path.read_text()


CORTEX_M = Path(__file__).with_name("cortex_m")
TOOLCHAINS = {
    "gcc": (["gcc", "-O2"], []),
    "clang": (["clang", "-O2"], []),
    "sanitized": (["gcc", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"], []),
    "aarch64": (["aarch64-linux-gnu-gcc", "-O2", "-static"], ["qemu-aarch64"]),
    "riscv64": (["riscv64-linux-gnu-gcc", "-O2", "-static"], ["qemu-riscv64"]),
    "cortex-m3": (
        [
            *("arm-none-eabi-gcc", "-O2", "-mcpu=cortex-m3", "-mthumb", "--specs=rdimon.specs"),
            *("-T", str(CORTEX_M / "mps2.ld"), str(CORTEX_M / "startup.c")),
        ],
        [
            *("qemu-system-arm", "-M", "mps2-an385", "-nographic", "-no-reboot"),
            *("-semihosting-config", "enable=on,target=native", "-kernel"),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_other_processors_give_the_same(name, tmp_path):
    network, x = case(name)
    path = export(network, tmp_path / "net.c", "c", x)
    ran = 0
    for label, (compiler, emulator) in TOOLCHAINS.items():
        if any(shutil.which(tool[0]) is None for tool in (compiler, emulator) if tool):
            continue
        program = tmp_path / label
        sources = [str(path), str(tmp_path / "net_main.c")]
        flags = [flag for flag in FLAGS if not flag.startswith(("-O", "-march"))]
        command = [*compiler, *flags, "-o", str(program), *sources, "-lm"]
        subprocess.run(command, check=True, timeout=120)
        done = subprocess.run(
            [*emulator, str(program)], capture_output=True, text=True, timeout=120, check=False
        )
        assert "4 samples, 0 numbers differ" in done.stdout, (label, done)
        assert done.returncode == 0
        ran += 1
    if not ran:
        pytest.skip("needs a C compiler")


FUNCTIONS = [
    *(F.relu, F.relu6, F.hardtanh, F.leaky_relu, torch.sigmoid, torch.tanh, F.silu, F.gelu, F.elu),
    *(F.softplus, F.mish, F.hardswish, F.hardsigmoid, torch.abs, torch.neg, torch.sign, F.selu),
    *(torch.exp, torch.square, torch.round, torch.floor, torch.ceil, torch.reciprocal),
    *(lambda x: F.gelu(x, approximate="tanh"), lambda x: x.clamp(max=0.3), lambda x: x.clamp(0.1)),
    *(lambda x: x.abs().sqrt(), lambda x: (x.abs() + 1).rsqrt(), lambda x: (x.abs() + 1).log()),
    *(lambda x: 2 - x, lambda x: torch.add(x, x * x, alpha=0.5)),
    *(lambda x: torch.maximum(x, -x), lambda x: torch.minimum(x, x * 2), lambda x: x / (x * x + 1)),
    *(lambda x: x * x.mean((2, 3), keepdim=True), lambda x: x - x.amax(1, keepdim=True)),
    *(lambda x: x.sum(3, keepdim=True) + x, lambda x: x.softmax(1), lambda x: x.log_softmax(-1)),
    *(lambda x: F.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 2, 3, ceil_mode=True)),
    *(
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    ),
    *(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), lambda x: x.transpose(1, 3)),
    *(lambda x: F.avg_pool2d(x, 2, divisor_override=3), lambda x: F.adaptive_max_pool2d(x, 3)),
    *(lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), lambda x: F.pad(x, (-1, 1)), lambda x: x.mean()),
    *(lambda x: x.permute(0, 3, 1, 2), lambda x: x.flatten(2).amax(2)),
]


class Every(nn.Module):
    """All of them, one after another, in one vector."""

    def __init__(self):
        super().__init__()
        self.layer = QuantConv2d(2, 3, 2, weight_quantizer="bitnet", input_quantizer="sign")

    def forward(self, x):
        y = self.layer(x)
        return torch.cat([f(y).reshape(1, -1) for f in FUNCTIONS], 1)


@needs_compiler
@pytest.mark.slow
def test_every_operator(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 7, 8)
    packed = deploy.pack(nn.Sequential(Every()).eval(), x)
    run = runtime(export(packed, tmp_path / "net.c", "c", x), "c")
    assert torch.allclose(run(x), packed(x), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("quantizers", QUANTIZERS)
@pytest.mark.parametrize("layer", ["linear", "conv1d", "conv2d", "depthwise", "tokens"])
def test_every_layer_with_every_quantizer(layer, quantizers, tmp_path):
    weight, inputs = QUANTIZERS[quantizers]
    make, shape = {
        "linear": (lambda **q: QuantLinear(37, 9, **q), (37,)),
        "conv1d": (lambda **q: QuantConv1d(6, 8, 3, padding=1, groups=2, **q), (6, 9)),
        "conv2d": (lambda **q: QuantConv2d(33, 7, 3, stride=2, padding=1, **q), (33, 8, 7)),
        "depthwise": (lambda **q: QuantConv2d(9, 9, 3, padding=1, groups=9, **q), (9, 8, 7)),
        "tokens": (lambda **q: QuantLinear(9, 11, **q), (4, 9)),
    }[layer]
    if inputs == "token" and layer not in ("linear", "tokens"):
        pytest.skip("convolutions of tokens have no C")
    torch.manual_seed(0)
    net = nn.Sequential(make(weight_quantizer=weight, input_quantizer=inputs))
    x = torch.randn(6, *shape)
    packed = deploy.pack(trained(net, *shape), x)
    run = runtime(export(packed, tmp_path / "net.c", "c", x), "c")
    y = packed(x)
    assert (run(x) - y).abs().max() <= 1e-5 * max(1.0, float(y.abs().max()))
