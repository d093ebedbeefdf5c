"""Whatever a forward pass does is packed, saved and loaded exactly, or refused by name."""

import collections
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.deploy.compare import compared
from ste_lightning.deploy.graph.sample import inferred_sample
from ste_lightning.deploy.graph.simplify import is_in_place
from ste_lightning.deploy.graph.steps import Step
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv3d, QuantEmbedding, QuantLinear

FILES = Path(__file__).parent / "files"
SIGN = [{"match": "*", "weight": "sign", "input": "sign"}]


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if isinstance(result, dict) else result
    return [tensor for value in values for tensor in flat(value)]


def exact(network, *inputs, others=(), tmp_path=None, **keywords):
    """The packed and the loaded network give what the trained one gives, for other sizes too."""
    network.eval()
    packed = deploy.pack(network)
    packed(*inputs, **keywords)
    path = tmp_path / "net.safetensors"
    deploy.save(packed, path)
    loaded = deploy.load(path)
    for given in (inputs, *others):
        with torch.no_grad():
            wanted = flat(network(*given, **keywords))
        for found in (packed(*given, **keywords), loaded(*given, **keywords)):
            for a, b in zip(wanted, flat(found), strict=True):
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
    return packed, loaded


class Around(nn.Module):
    """A quantized layer, and a function of what is before and after it."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), QuantLinear(8, 8), nn.Linear(8, 4)
        self.function = function

    def forward(self, x):
        y = self.a(x)
        return self.c(self.function(self.b(y), y))


FUNCTIONS = {
    "transposed twice": lambda y, x: (y.T + x.T).T,
    "attributes": lambda y, x: (y.mT.mT * y.ndim + x.real) * y.shape[-1],
    "einsum and powers": lambda y, x: torch.maximum(y**2, torch.einsum("bi,bj->bi", y, x)),
    "in place": lambda y, x: F.relu(y * 2, inplace=True).add_(x),
    "slices": lambda y, x: torch.cat([y[:, ::2], x[..., -4:]], dim=1),
    "masks": lambda y, x: torch.where(x > 0, y, x.new_full((), -2.0)).masked_fill(x < -1, 3.0),
    "masks joined": lambda y, x: torch.where((x > 0) & (x < 1) | (x.abs() > 2), y, x),
    "written into a copy": lambda y, x: torch.index_fill(y.clone(), 1, torch.tensor([0]), 0.5) + x,
    "by length": lambda y, x: y + torch.arange(len(x), dtype=x.dtype).unsqueeze(1) / len(x),
    "sorted": lambda y, x: y.sort(dim=1).values + x.topk(8, dim=1)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_between_layers(name, tmp_path):
    torch.manual_seed(0)
    sizes = [(torch.randn(n, 8),) for n in (1, 7)]
    exact(Around(FUNCTIONS[name]), torch.randn(3, 8), others=sizes, tmp_path=tmp_path)


Pair = collections.namedtuple("Pair", "sum product")


class Trees(nn.Module):
    """Dictionaries and tuples in and out, a parameter read in forward, a named tuple."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 8))
        self.layer = QuantLinear(8, 8)

    def forward(self, given, scale=2.0, *, shift=None):
        x = self.layer(torch.cat([given["x"], self.token.expand(len(given["x"]), -1)]))
        x = x * scale if shift is None else x * scale + shift
        return {"pair": Pair(x + 1, x * given["more"][0]), "list": [x, (x.sum(),)]}


def test_trees_of_arguments_and_results(tmp_path):
    torch.manual_seed(0)
    given = {"x": torch.randn(3, 8), "more": (torch.randn(8),)}
    packed, loaded = exact(Trees(), given, shift=torch.randn(8), tmp_path=tmp_path)
    shift = torch.randn(8)
    assert isinstance(packed(given, shift=shift)["pair"], Pair)
    assert loaded(given, shift=shift)["pair"].product.shape == (6, 8)
    assert torch.equal(packed(given)["list"][0], packed.module(given)["list"][0])
    with pytest.raises(ConfigurationError, match=r"shift: float32 \(8\)"):
        loaded(given)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        loaded(given, 3.0, shift=shift)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.layer, self.head = QuantLinear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(self.cell(x)[0][:, -1]))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_keep_their_lengths_free(kind, tmp_path):
    torch.manual_seed(0)
    others = [(torch.randn(1, 5, 8),), (torch.randn(4, 9, 8),)]
    exact(Recurrent(kind), torch.randn(3, 7, 8), others=others, tmp_path=tmp_path)


def test_torchs_transformer_layers(tmp_path):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    network = nn.Sequential(
        nn.Linear(8, 16),
        nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
        nn.Linear(16, 2),
    )
    quantize_(network, [{"match": "*", "weight": "sign", "input": {"map": "lsq", "bits": 8}}])
    x = torch.randn(3, 5, 8)
    network(x)
    exact(network, x, others=[(torch.randn(2, 9, 8),)], tmp_path=tmp_path)


def test_joining_masks_is_not_taken_for_a_change_in_place():
    assert not is_in_place(Step("both", "function", "__and__.Tensor", (), {}))
    assert is_in_place(Step("sum", "function", "add_.Tensor", (), {}))


class Windows(nn.Module):
    """Cuts an image, padded to whole windows, into moved windows, and again."""

    def __init__(self):
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        for mix in self.mix:
            x = F.pad(mix(x), (0, (4 - x.shape[3] % 4) % 4, 0, (4 - x.shape[2] % 4) % 4))
            n, c, h, w = x.roll((-1, -1), (2, 3)).shape
            y = x.view(n, c, h // 4, 4, w // 4, 4).transpose(3, 4).reshape(n, -1, 4, 4)
            x = y.softmax(1).view(n, c, h // 4, w // 4, 4, 4).transpose(3, 4).reshape(n, c, h, w)
            x = x[:, :, : (h + 1) // 2 + 1, : (w + 1) // 2 + 1]
        return x.mean((2, 3))


@pytest.mark.slow
def test_sizes_that_become_long_formulas_are_fixed():
    torch.manual_seed(0)
    network = Windows()
    quantize_(network, SIGN)
    packed = deploy.pack(network.eval(), torch.randn(2, 4, 18, 21))
    assert packed.graph.inputs[0].sizes == (None, 4, 18, 21)
    x = torch.randn(5, 4, 18, 21)
    torch.testing.assert_close(packed(x), network(x), rtol=1e-5, atol=1e-6)


def test_a_branch_on_sizes_is_kept_or_refused(tmp_path):
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = QuantLinear(8, 8)

        def forward(self, x):
            y = self.layer(x)
            return y * 2 if x.shape[1] > 4 else y

    network, long, short = Branch(), torch.randn(2, 6, 8), torch.randn(2, 3, 8)
    packed = deploy.pack(network, long)
    deploy.save(packed, tmp_path / "a")
    loaded = deploy.load(tmp_path / "a")
    with torch.no_grad():
        assert torch.allclose(loaded(long), network(long))
    with pytest.raises(ConfigurationError, match=r"test_any_network.py:\d+"):
        loaded(short)


def test_one_sample_that_takes_another_way_is_noticed():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = QuantLinear(8, 8)

        def forward(self, x):
            y = self.layer(x)
            return y * 3 if len(x) == 1 else y

    network, x = Single(), torch.randn(4, 8)
    with pytest.warns(UserWarning, match="cannot be captured"):
        packed = deploy.pack(network, x)
    with torch.no_grad():
        for rows in (x, x[:1]):
            assert torch.equal(packed(rows), network(rows))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_are_computed_become_plain(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        torch.nn.utils.weight_norm(nn.Linear(8, 8)),
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
        QuantLinear(8, 8),
        torch.nn.utils.spectral_norm(nn.Linear(8, 8)),
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)),
    ).eval()
    torch.nn.utils.prune.l1_unstructured(network[1], "bias", 0.5)
    exact(network, torch.randn(3, 8), tmp_path=tmp_path)
    assert hasattr(network[0], "weight_g")  # the model is as it was


def test_hooks_are_part_of_the_network(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), QuantLinear(8, 8), nn.Linear(8, 4))
    network[0].register_forward_hook(lambda m, given, out: out * 2)
    network[1].register_forward_pre_hook(lambda m, given: (given[0] - 0.1,))
    exact(network, torch.randn(3, 8), tmp_path=tmp_path)


def test_shared_and_tied_modules_are_stored_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self, tie):
            super().__init__()
            self.table, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
            self.packed, self.layer = QuantEmbedding(50, 16), QuantLinear(16, 16, bias=False)
            self.same = self.layer if tie else QuantLinear(16, 16, bias=False)
            if tie:
                self.head.weight = self.table.weight

        def forward(self, ids):
            x = self.same(self.layer(self.table(ids) + self.packed(ids)))
            return self.head(x)

    ids, sizes = torch.randint(0, 50, (2, 6)), []
    for tie in (False, True):
        network = Tied(tie)
        packed, _ = exact(network, ids, tmp_path=tmp_path)
        sizes.append((tmp_path / "net.safetensors").stat().st_size)
        assert (packed.module.same is packed.module.layer) == tie
    assert sizes[1] < sizes[0] - 4 * 50 * 16 + 100


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_types(dtype):
    torch.manual_seed(0)
    network = Around(lambda y, x: y + x).to(dtype).eval()
    x = torch.randn(5, 8)
    packed = deploy.pack(network, x)
    with torch.no_grad():
        wanted = network(x.to(dtype)).float()
    for given in (x, x.to(dtype)):
        assert torch.allclose(packed(given), wanted, atol=0.05 if dtype == torch.bfloat16 else 1e-5)


def test_compiled_inner_modules_are_unwrapped(tmp_path):
    network = Around(lambda y, x: y)
    network.a = torch.compile(nn.Sequential(nn.Linear(8, 8), QuantLinear(8, 8)), backend="eager")
    with torch.compiler.set_stance("force_eager"):
        packed, _ = exact(network, torch.randn(3, 8), tmp_path=tmp_path)
    assert type(packed.module.a) is nn.Sequential


def test_compiling_a_packed_network_changes_nothing(tmp_path):
    network, x = Around(lambda y, x: y * 2 + x), torch.randn(6, 8)
    packed, loaded = exact(network, x, tmp_path=tmp_path)
    for one in (packed, loaded):
        assert torch.allclose(torch.compile(one, backend="eager")(x), one(x))
    whole = torch.compile(packed.module, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(whole(x), packed(x))


def test_a_layer_that_differs_is_named():
    network, x = Around(lambda y, x: y), torch.randn(6, 8)
    packed = deploy.pack(network, x)
    assert all(row.equal for row in compared(network, packed, x))
    packed.layer("b").weight_bits ^= 1
    packed.layer("b").forget()
    rows = compared(network, packed, x)
    assert [row.name for row in rows if not row.equal] == ["b"]

    class Wrong(QuantLinear):
        def forward(self, x):
            return super().forward(x) + 0.1

    network.b.__class__ = Wrong
    with pytest.raises(ConfigurationError, match="layer 'b'"):
        deploy.pack(network, x)


def test_what_changes_itself_is_refused_by_line(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = QuantLinear(8, 8)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x) * self.calls

    packed = deploy.pack(Counts())
    with pytest.warns(UserWarning, match=r"calls|add_"):
        packed(torch.randn(2, 8))
    with pytest.raises(ConfigurationError, match="cannot be saved"):
        deploy.save(packed, tmp_path / "a")


def test_random_numbers_are_refused():
    network = Around(lambda y, x: y + torch.rand_like(y))
    with pytest.warns(UserWarning, match="rand"):
        deploy.pack(network, torch.randn(2, 8))


def test_the_input_is_found_or_asked_for(tmp_path):
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), QuantLinear(4 * 100, 5))
    deploy.save(deploy.pack(images), tmp_path / "a")
    assert deploy.load(tmp_path / "a")(torch.zeros(1, 3, 12, 12)).shape == (1, 5)
    deploy.save(deploy.pack(images, info={"input_shape": [3, 12, 12]}), tmp_path / "a")
    assert deploy.load(tmp_path / "a")(torch.zeros(4, 3, 12, 12)).shape == (4, 5)
    volumes = nn.Sequential(nn.BatchNorm3d(2), QuantConv3d(2, 4, 3))
    assert inferred_sample(deploy.pack(volumes)).dim() == 5

    class Two(Around):
        def forward(self, x, y):
            return super().forward(x + y)

    with pytest.raises(ConfigurationError, match="sample"):
        deploy.save(deploy.pack(Two(lambda y, x: y)), tmp_path / "b")


def test_files_of_version_1_load(tmp_path):
    known = json.loads((FILES / "version_1.json").read_text())
    ids, scale = torch.tensor(known["ids"]), torch.tensor(known["scale"])
    network = deploy.load(FILES / "version_1.safetensors")
    assert network.info["classes"] == list("abcde")
    for _ in range(2):
        for found, wanted in zip(network(ids, scale), known["outputs"], strict=True):
            assert torch.allclose(found, torch.tensor(wanted), atol=1e-5)
    deploy.save(network, tmp_path / "again")
    again = deploy.load(tmp_path / "again")
    assert torch.equal(again(ids[:1], scale[:1])[0], network(ids[:1], scale[:1])[0])
