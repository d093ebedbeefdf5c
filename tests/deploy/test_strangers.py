"""Networks that nobody here had in mind: packed, saved and loaded they compute the same."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical
from torch.nn.utils import parametrizations, parametrize, prune

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.errors import ConfigurationError

INNER = [{"match": "b", "weight": "sign", "input": "sign"}]
WITH_ZERO = [{"match": "b", "weight": "ternary", "input": "sign"}]  # for pruned weights


class Body(nn.Module):
    """Three linear layers, the middle one quantized, and a function behind it."""

    def __init__(self, function=lambda y, x: y) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.function = function

    def forward(self, x):
        return self.c(self.function(self.b(self.a(x)), x))


# torch 2.6 cannot export these with free sizes, or leaves parts whole: pack refuses them by name
NEWER = {"adjoint, real", "Fourier", "autocast and no_grad", "rows of a mask"}
IS_OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 7)


def skip_on_old_torch(kind):
    if IS_OLD and kind in NEWER:
        pytest.skip(f"torch {torch.__version__} does not export it")


def numbers(result):
    if isinstance(result, torch.Tensor):
        return [result.double()]
    return [n for part in result if part is not None for n in numbers(part)]


def same(net, x, *others, tolerance=1e-4, tmp_path):
    """Compare the packed and the loaded network with the trained one on all inputs."""
    net.eval()
    x = x if isinstance(x, tuple) else (x,)
    packed = deploy.pack(net, tuple(copy.deepcopy(t.detach()) for t in x))
    assert not packed.reason
    deploy.save(packed, tmp_path / "net.safetensors")
    loaded = deploy.load(tmp_path / "net.safetensors")
    with torch.no_grad():
        for given in (x, *(o if isinstance(o, tuple) else (o,) for o in others)):
            wanted = numbers(net(*(t.clone() for t in given)))
            for network in (packed, loaded):
                found = numbers(network(*(t.clone() for t in given)))
                for one, other in zip(found, wanted, strict=True):
                    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


FUNCTIONS = {
    "adjoint, real": lambda y, x: y @ (y.mH @ x.real) + y.T.H,
    "sizes as numbers": lambda y, x: y * y.ndim + y.shape[0] * y.size(-1) / (len(x) + 1),
    "in place on a result": lambda y, x: y.add_(1).mul_(2).clamp_(min=-1) + x,
    "assignment to a slice": lambda y, x: y.index_fill_(1, torch.tensor([0, 2]), 0.5),
    "masks": lambda y, x: torch.where(y > 0, y, x).masked_fill(x > 1, -1.0),
    "gather and scatter": lambda y, x: y.scatter(1, y.argsort(1), x).gather(1, x.argsort(1)),
    "sorted": lambda y, x: torch.cat([y.topk(4, 1).values, x.sort(1).values[:, :4]], 1),
    "einsum": lambda y, x: torch.einsum("bi,bj,ij->bj", y, x, torch.eye(8)),
    "norms": lambda y, x: F.normalize(y, dim=1) + torch.linalg.norm(x, dim=1, keepdim=True),
    "pieces": lambda y, x: torch.stack([*y.chunk(2, 1), *x.split(4, 1)], 1).sum(2).repeat(1, 2),
    "casts": lambda y, x: y.half().float() + (x * 3).round().long() + y.double().float(),
    "moves": lambda y, x: y.double().to("cpu", torch.float32) + x,
    "arithmetic": lambda y, x: 2**y + y**2 + (1 - y) // 2 + y % 3,
    "one hot": lambda y, x: y + F.one_hot(x.argmax(1), 8),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions(kind, tmp_path) -> None:
    skip_on_old_torch(kind)
    torch.manual_seed(0)
    net = Body(FUNCTIONS[kind])
    quantize_(net, INNER)
    same(net, torch.randn(5, 8), torch.randn(1, 8), torch.randn(7, 8), tmp_path=tmp_path)


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).mT


def hooked(layer, kind):
    hooks = {
        "pre": lambda: layer.register_forward_pre_hook(lambda m, x: (x[0] * 2,)),
        "keywords": lambda: layer.register_forward_pre_hook(
            lambda m, x, k: ((x[0] * 2,), k), with_kwargs=True
        ),
        "result": lambda: layer.register_forward_hook(lambda m, x, y: y + 1),
    }
    hooks[kind]()
    return layer


CHANGES = {
    "spectral norm": lambda net: parametrizations.spectral_norm(net.a),
    "weight norm": lambda net: parametrizations.weight_norm(net.a),
    "weight norm of a quantized layer": lambda net: parametrizations.weight_norm(net.b),
    "own parametrization": lambda net: parametrize.register_parametrization(
        net.b, "weight", Symmetric()
    ),
    "pruned": lambda net: prune.l1_unstructured(net.a, "weight", 0.5),
    "pruned quantized layer": lambda net: prune.l1_unstructured(net.b, "weight", 0.5),
    "tied": lambda net: setattr(net.b, "weight", net.a.weight),
    "compiled inside": lambda net: setattr(net, "a", torch.compile(net.a, backend="eager")),
    **{
        f"{kind} hook of {name or 'the network'}": (
            lambda net, kind=kind, name=name: hooked(net.get_submodule(name), kind)
        )
        for kind, name in [("pre", "a"), ("pre", "b"), ("pre", ""), ("keywords", ""),
                           ("result", "b"), ("result", "")]
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_modules(kind, tmp_path) -> None:
    torch.manual_seed(0)
    net = Body()
    CHANGES[kind](net)
    quantize_(net, WITH_ZERO if "pruned quantized" in kind else INNER)
    x = torch.randn(5, 8)
    net(x)
    same(net, x, torch.randn(7, 8), tmp_path=tmp_path)
    net(x)  # the trained network still is one


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats(dtype, tmp_path) -> None:
    torch.manual_seed(0)
    net = Body().to(dtype)
    quantize_(net, INNER)
    x = torch.randn(5, 8).to(dtype)
    tolerance = 1e-5 if dtype == torch.float64 else 5e-2
    same(net, x, torch.randn(7, 8).to(dtype), tolerance=tolerance, tmp_path=tmp_path)


class Attends(nn.Module):
    """Attention with a causal mask and one of padding, by keywords; two results."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(8, 8)
        self.m = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, padding=None):
        x, n = self.b(x), x.shape[1]
        mask = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
        return self.m(x, x, x, attn_mask=mask, key_padding_mask=padding)


@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_masks(padded, tmp_path) -> None:
    torch.manual_seed(0)
    net = Attends()
    grid = {"map": "lsq", "bits": 8}
    quantize_(net, [{"match": "m", "weight": grid, "input": grid}])
    x, padding = torch.randn(3, 6, 8), torch.zeros(3, 6, dtype=torch.bool)
    padding[:, 4:] = True
    given = (x, padding) if padded else (x,)
    net(*given)
    others = (x[:1], padding[:1]) if padded else (torch.randn(4, 9, 8),)
    same(net, given, others, tolerance=5e-2, tmp_path=tmp_path)


class Grows(nn.Module):
    """A transposed convolution whose size another result gives."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.up, self.c = nn.ConvTranspose2d(8, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.a(x)
        return self.c(self.up(self.b(y), output_size=y.shape[-2:]))


def test_a_size_that_a_keyword_gives(tmp_path) -> None:
    torch.manual_seed(0)
    net = Grows()
    quantize_(net, [{"match": "up", "weight": "sign", "input": "sign"}])
    same(net, torch.randn(2, 3, 8, 8), torch.randn(1, 3, 10, 12), tmp_path=tmp_path)


READS = {
    "product": lambda net, y: F.linear(y, net.b.weight),
    "operator": lambda net, y: y @ net.b.weight,
    "sum": lambda net, y: torch.cat([y, net.b.weight]).sum(),
    "method": lambda net, y: y * net.b.weight.norm(),
    "slice": lambda net, y: y + net.b.weight[0],
}


class Reads(Body):
    """Reads the weights of its quantized layer outside of that layer's call."""

    def __init__(self, read) -> None:
        super().__init__()
        self.read = read

    def forward(self, x):
        return self.read(self, self.b(self.a(x)))


@pytest.mark.parametrize("kind", READS)
def test_latent_weights_read_outside_of_their_layer_are_refused_by_name(kind) -> None:
    net = Reads(READS[kind])
    quantize_(net, INNER)
    x = torch.randn(3, 8)
    net.eval()(x)
    with pytest.raises(ConfigurationError, match=r"latent weights of 'b'.*in float"):
        deploy.pack(net, x)
    packed = deploy.pack(net)
    with pytest.raises(ConfigurationError, match=r"latent weights of 'b'"):
        packed(x)


def test_shape_and_type_of_packed_weights_can_be_asked_for(tmp_path) -> None:
    def read(net, y):
        w = net.b.weight
        assert w.is_floating_point()
        assert len(w) == w.size()[0] == w.shape[0]
        return (y * w.shape[0] + w.numel() * w.dim() + w.size(1)).to(w.device, w.dtype)

    net = Reads(read)
    quantize_(net, INNER)
    same(net, torch.randn(3, 8), tmp_path=tmp_path)


class Around(Body):
    """A function between the last two layers that may use parts of the network."""

    def __init__(self, function, **parts) -> None:
        super().__init__(function)
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x, *given):
        return self.c(self.function(self, self.b(self.a(x)), x, *given))


def turned(net, y, x):
    pairs = torch.view_as_complex(y.unflatten(1, (4, 2)))
    return torch.view_as_real(pairs * net.turn * (2 + 1j)).flatten(1)


def autocast(net, y, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = y @ net.a.weight
    with torch.enable_grad(), torch.no_grad():
        z = z + 1
    return z.float() + y


def by_size(net, y, x):
    n = x.shape[1]
    seen = torch.ones(x.shape[0], n, dtype=torch.bool).tril(diagonal=n - 3)
    y = y.masked_fill(~seen, 0) + torch.linspace(-1, 1, n)
    return y + F.max_pool1d(y, n) + F.avg_pool1d(y[:, None], kernel_size=y.size(1)).squeeze(1)


def doubled(x: torch.Tensor, times: int) -> torch.Tensor:
    if times > 1:
        return x * 2
    return x


def numbers_of_buffers(net, y, x):
    y = y.topk(int(net.count), 1).values
    return torch.cat([y * 2 if net.flag else y, y[:, : net.count.item()]], 1)


PARTS = {
    "complex numbers": (turned, {"turn": torch.polar(torch.ones(4), torch.arange(4.0))}),
    "Fourier": (lambda net, y, x: torch.fft.irfft(torch.fft.rfft(y) * 1j, n=8) + y, {}),
    "autocast and no_grad": (autocast, {}),
    "rows of a mask": (lambda net, y, x: y[x[:, 0] < 9][torch.nonzero(x[:, 1] < 9)[:, 0]], {}),
    "a scripted function": (lambda net, y, x: torch.jit.script(doubled)(y, 3), {}),
    "numbers of buffers": (
        numbers_of_buffers,
        {"count": torch.tensor(4), "flag": torch.tensor(True)},
    ),
    "another type of floats": (
        lambda net, y, x: net.half_layer(y.half()).float(),
        {"half_layer": nn.Linear(8, 8).half()},
    ),
    "sizes": (by_size, {}),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_between_layers(kind, tmp_path) -> None:
    skip_on_old_torch(kind)
    torch.manual_seed(0)
    function, parts = PARTS[kind]
    net = Around(function, **parts)
    quantize_(net, INNER)
    same(net, torch.randn(5, 8), torch.randn(1, 8), torch.randn(7, 8), tmp_path=tmp_path)


class Pooled(nn.Module):
    """Convolutions whose result is pooled over its whole size, and sampled on a grid of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Linear(8, 4)

    def forward(self, x):
        y = self.b(self.a(x))
        rows, columns = (torch.linspace(-1, 1, n) for n in y.shape[-2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
        y = y + F.grid_sample(y, 0.9 * grid.expand(len(x), -1, -1, -1), align_corners=False)
        most = F.max_pool2d(y, kernel_size=y.shape[2:], ceil_mode=True)
        return self.c((F.avg_pool2d(y, y.size()[2:]) + most).flatten(1))


def test_functions_of_sizes_keep_them_free(tmp_path) -> None:
    torch.manual_seed(0)
    net = Pooled()
    quantize_(net, INNER)
    others = torch.randn(1, 3, 6, 9), torch.randn(7, 3, 10, 5)
    same(net, torch.randn(2, 3, 8, 8), *others, tmp_path=tmp_path)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_words(mode, tmp_path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.EmbeddingBag(20, 8, mode=mode), *(nn.Linear(8, 8) for _ in range(3)))
    quantize_(net, [{"match": "2", "weight": "sign", "input": "sign"}])
    words = torch.randint(20, (3, 6)), torch.randint(20, (2, 9))
    same(net, *words, tmp_path=tmp_path)
    loaded = deploy.load(tmp_path / "net.safetensors")
    found = loaded.predict(words[0].numpy())  # nothing has to say that words are whole numbers
    torch.testing.assert_close(found[2].outputs, net(words[0])[2], rtol=1e-4, atol=1e-4)


class Translates(nn.Module):
    """torch's encoder and decoder, with the mask of targets that its documentation shows."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
        self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x, y):
        mask = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
        return self.c(self.b(self.whole(x, y, tgt_mask=mask)))


def test_a_causal_mask_for_torchs_transformer(tmp_path) -> None:
    torch.manual_seed(0)
    net = Translates()
    quantize_(net, INNER)
    given = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    same(net, given, (torch.randn(2, 7, 8), torch.randn(2, 6, 8)), tmp_path=tmp_path)


REFUSED = {
    "a branch on values": (lambda net, y, x: y if y.sum() > 0 else -y, {}, "a tensor holds"),
    "scripted weights": (
        lambda net, y, x: net.part(y),
        {"part": torch.jit.script(nn.Linear(8, 8))},
        "'part' is scripted",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_captured_says_why(kind, capfd) -> None:
    function, parts, words = REFUSED[kind]
    net = Around(function, **parts)
    quantize_(net, INNER)
    net.eval()
    with pytest.warns(UserWarning, match=words):
        packed = deploy.pack(net, torch.randn(3, 8))
    assert packed.reason
    assert capfd.readouterr().err == ""  # torch would show its graph


class Branches(Body):
    """What follows depends on values, so that nothing can be captured."""

    def forward(self, x):
        y = self.b(self.a(x))
        packed = isinstance(self.b, deploy.PackedLayer)
        return self.function(self, y if y.sum() < 1e9 else -y, packed)


IN_PROCESS = {  # what a packed copy computes otherwise
    "another result": (lambda net, y, packed: net.c(-y if packed else y), "the output"),
    "one of no tensors": (
        lambda net, y, packed: Categorical(logits=net.c(-y if packed else y)), "the output",
    ),
    "fewer calls": (lambda net, y, packed: y if packed else net.b(y), "layer 'b'"),
    "more calls": (lambda net, y, packed: net.b(y) if packed else y, "layer 'b'"),
    "another size": (lambda net, y, packed: net.b(y[: 2 - packed]), "layer 'b'"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*cannot be captured")
@pytest.mark.parametrize("kind", IN_PROCESS)
def test_what_cannot_be_captured_is_compared_in_process(kind) -> None:
    function, where = IN_PROCESS[kind]
    net, x = Branches(function), torch.randn(3, 8)
    quantize_(net, INNER)
    for floats in ("float32", "int8"):
        if floats == "int8" and where == "the output":
            continue  # it differs by the rounding of floats anyway
        net.function = function
        with pytest.raises(ConfigurationError, match=where):
            deploy.pack(net.eval(), x, floats=floats)
        net.function = lambda net, y, packed: function(net, y, False)
        assert deploy.pack(net, x, floats=floats).reason


class Averages(Body):
    """Its buffers go on changing in eval: one in place, one by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        y = self.b(self.a(x))
        self.mean.mul_(0.5).add_(y.mean(0), alpha=0.5)
        self.calls = self.calls + 1
        return self.c(y - self.mean) * self.calls


def test_packing_leaves_buffers_that_change_in_eval_as_they_are() -> None:
    net, x = Averages(), torch.randn(3, 8)
    quantize_(net, INNER)
    net.eval()
    with pytest.warns(UserWarning, match="cannot be captured"):
        packed = deploy.pack(net, x)
    assert net.calls == packed.module.calls == 0
    assert not net.mean.any()
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(packed(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_cast_that_the_packed_copy_cannot_follow_is_refused() -> None:
    net = Body(lambda y, x: y.double())
    quantize_(net, INNER)
    net.double().eval()
    with pytest.raises(ConfigurationError, match=r"forward casts to another type"):
        deploy.pack(net, torch.randn(3, 8))
