"""Networks of one layer are called with little around their product: results stay the same."""

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear


@pytest.fixture(params=["sign", "step"])
def network(request):
    torch.manual_seed(0)
    layer = QuantLinear(70, 40, weight_quantizer="sign", input_quantizer=request.param)
    return nn.Sequential(layer).eval()


def test_every_input_gives_what_the_trained_network_gives(network):
    packed = deploy.pack(network)
    x = torch.randn(3, 70)
    inputs = [x, x[:1], x[:0], torch.randn(70, 3).T, torch.randn(3, 70, requires_grad=True)]
    inputs += [torch.randn(3, 70, dtype=torch.float64), nn.Parameter(torch.randn(2, 70))]
    for given in [x, *inputs, *inputs]:  # the first call derives what later ones need
        expected = network(given.float())
        assert torch.allclose(packed(given).float(), expected, atol=1e-5)
        assert not packed(given).requires_grad


def test_what_may_change_is_looked_at(network):
    packed = deploy.pack(network)
    x = torch.randn(3, 70)
    before = packed(x)
    with pytest.raises(ConfigurationError, match="70"):
        packed(torch.randn(3, 71))
    seen = []
    handle = packed.module[0].register_forward_hook(lambda *given: seen.append(1))
    assert torch.equal(packed(x), before)
    assert seen
    handle.remove()
    layer = packed.module[0]
    layer.bias.add_(1.0)
    layer.forget()
    assert torch.allclose(packed(x), before + 1.0, atol=1e-5)
    packed(x)
    assert torch.allclose(packed(x), before + 1.0, atol=1e-5)
