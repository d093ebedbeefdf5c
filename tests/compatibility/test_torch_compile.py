"""torch.compile around machine code: the same numbers, or a refusal by name."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo import compiled_autograd
from torch.fx.experimental.proxy_tensor import make_fx

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantEmbedding
from ste_lightning.theory import simulate

LSQ = {"map": "lsq", "bits": 4}
UNIFORM = {"map": "uniform", "bits": 8}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Every(nn.Module):
    """One layer of each kind that is packed."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 16)
        self.down = nn.Conv1d(16, 24, 3, padding=1)
        self.up = nn.ConvTranspose1d(24, 16, 2, stride=2)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens):
        x = self.table(tokens).transpose(1, 2)
        return self.head(self.up(self.down(x)).transpose(1, 2))


def packed(spec):
    torch.manual_seed(0)
    net = Every()
    both = [{"match": name, "weight": spec, "input": spec} for name in ("down", "up", "head")]
    quantize_(net, [*both, {"match": "table", "weight": spec}])
    tokens = torch.randint(0, 12, (6, 10))
    net(tokens)
    assert isinstance(net.table, QuantEmbedding)
    return deploy.pack(net.eval()), tokens


@pytest.mark.parametrize("spec", ["sign", LSQ, UNIFORM], ids=str)
def test_a_packed_network(spec):
    """`torch.compile` of a packed network, traced by its backend "eager": the same numbers

    A compiler that looked inside would drop tensors whose addresses were taken.
    """
    network, tokens = packed(spec)
    expected = network(tokens)
    assert torch.equal(torch.compile(network, backend="eager")(tokens), expected)


def test_packed_layers_within_compiled_code():
    """Layers of a packed network called by compiled code: the same numbers"""
    network, _ = packed(LSQ)
    layers = [network.layer(name) for name in ("down", "up", "head")]

    def run(x):
        x = x * 1
        for layer in layers[:2]:
            x = layer(x) + 0
        return layers[2](x.transpose(1, 2)) * 2

    x = torch.randn(4, 16, 10)
    assert torch.equal(torch.compile(run, backend="eager")(x), run(x))


def test_records_of_operations_are_refused():
    """`torch.jit.trace` and `make_fx` of a packed network are refused

    They would hold the results of one input as constants.
    """
    network, tokens = packed("sign")
    for record in (lambda: torch.jit.trace(network, (tokens,)), lambda: make_fx(network)(tokens)):
        with pytest.raises(ConfigurationError, match=r"jit\.trace or make_fx; use deploy\.export"):
            record()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # by compiled autograd
@pytest.mark.parametrize(
    "spec",
    [LSQ, *(pytest.param(spec, marks=pytest.mark.slow) for spec in ("sign", UNIFORM))],
    ids=str,
)
def test_backward_passes_under_compiled_autograd(spec):
    """Backward passes under compiled autograd: the same gradients"""
    torch.manual_seed(0)
    eager = nn.Sequential(nn.Linear(8, 512), nn.Linear(512, 512), nn.Linear(512, 2))
    quantize_(eager, [{"match": "*", "weight": spec, "input": spec}])
    x = torch.randn(256, 8)
    eager(x)
    other = copy.deepcopy(eager)
    eager(x).square().sum().backward()
    loss = other(x).square().sum()
    with compiled_autograd._enable(torch.compile(backend="eager")):
        loss.backward()
    for ours, expected in zip(other.parameters(), eager.parameters(), strict=True):
        assert torch.equal(ours.grad, expected.grad)


def test_simulations():
    """`theory.simulate` called by compiled code: the same numbers"""

    def run():
        return simulate(n=16, samples=64, trials=4, steps=20).latent

    assert torch.equal(torch.compile(run, backend="eager")(), run())
