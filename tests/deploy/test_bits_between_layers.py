"""Bits between packed layers: every decision is that of the trained network."""

import copy
import pickle
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_pairs import both, calls, in_formats, noisy
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.fusion.bit_chain import Chain
from ste_lightning.deploy.layers.input_quantizers import BinaryInput
from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import SIGNS, default_format, dispatch
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantLinear

pytestmark = pytest.mark.skipif(default_format() == "torch", reason="numba is missing")
FORMATS = ["bytes", "words", *(["lookup"] if has_avx2() else [])]


def runs(packed):
    """The runs of layers that a packed network computes together."""
    return [call for call in calls(packed) if isinstance(call, Chain)]


CONVOLUTIONS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
    }
)
POOLS = st.one_of(
    st.none(),
    st.builds(
        lambda size, stride, pad, ceil: nn.MaxPool2d(
            size, stride, min(pad, size // 2), ceil_mode=ceil
        ),
        *(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans()),
    ),
)  # fmt: skip


@given(
    first=CONVOLUTIONS,
    second=CONVOLUTIONS,
    pools=st.tuples(POOLS, POOLS),
    late=st.booleans(),
    groups=st.tuples(st.sampled_from([1, 1, 2, 5]), st.sampled_from([1, 1, 2, 5])),
    widths=st.tuples(st.integers(1, 15), st.integers(1, 9)),
    quantizer=st.sampled_from(["sign", "step"]),
    pad_value=st.sampled_from([-1.0, 0.0, 1.0]),
    weight=st.sampled_from(["sign", "ternary"]),
    images=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=8, deadline=None)
def test_convolutions(
    first, second, pools, late, groups, widths, quantizer, pad_value, weight, images, seed
):
    torch.manual_seed(seed)
    a, b = groups
    inner, outer = widths[0] * a * b, widths[1] * b
    common = {
        "bias": False,
        "pad_value": pad_value,
        "weight_quantizer": weight,
        "input_quantizer": quantizer,
    }
    between = [pools[0], nn.BatchNorm2d(inner)]
    network = nn.Sequential(
        QuantConv2d(3 * a, inner, groups=a, **first, **common),
        *(part for part in (reversed(between) if late else between) if part is not None),
        QuantConv2d(inner, outer, groups=b, **second, **common),
        *([] if pools[1] is None else [pools[1]]),
    )
    noisy(network)
    x = torch.randn(images, 3 * a, 59, 57)
    few = (a > 1 and inner // a <= 4) or (b > 1 and max(inner, outer) // b <= 4)
    for packed in in_formats(network, FORMATS, x if images else x.new_zeros(1, *x.shape[1:])):
        expected, found = both(network, x, packed)
        joined = [len(run.layers) for run in runs(packed)] == [2]
        assert joined != few  # of few channels per group: another kernel
        assert torch.equal(found, expected)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("classes", [4, 130])
def test_flattened_images_and_rows(fmt, classes, monkeypatch):
    """A linear layer reads a flattened image of bits in the order of the floats."""
    monkeypatch.setattr(dispatch, "default_format", lambda: fmt)
    torch.manual_seed(0)
    network = noisy(
        nn.Sequential(
            QuantConv2d(3, 21, 3, padding=1, bias=False, pad_value=-1.0),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(21),
            nn.Flatten(),
            QuantLinear(21 * 4 * 5, 70, bias=False),
            nn.BatchNorm1d(70),
            QuantLinear(70, 33, bias=False, input_quantizer="step"),
            nn.BatchNorm1d(33),
            QuantLinear(33, classes),
        )
    )
    packed = deploy.pack(network, torch.randn(2, 3, 8, 10))
    assert [len(run.layers) for run in runs(packed)] == [4]
    for rows in (1, 2, 64):
        expected, found = both(network, torch.randn(rows, 3, 8, 10), packed)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    integers = nn.Sequential(*network[:-1], nn.Identity())
    expected, found = both(integers, torch.randn(64, 3, 8, 10), deploy.pack(integers))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


class Residual(nn.Module):
    """A block whose first sums are read twice."""

    def __init__(self):
        super().__init__()
        self.first = QuantConv2d(8, 8, 3, padding=1, bias=False, pad_value=-1.0)
        self.second = QuantConv2d(8, 8, 3, padding=1, bias=False, pad_value=-1.0)
        self.third = QuantConv2d(8, 8, 3, padding=1, bias=False, pad_value=-1.0)

    def forward(self, x):
        y = self.first(x)
        z = self.third(self.second(y))
        return y + z


def test_sums_that_somebody_else_reads_stay_floats():
    torch.manual_seed(0)
    network = Residual().eval()
    packed = deploy.pack(network)
    expected, found = both(network, torch.randn(2, 8, 9, 9), packed)
    assert [len(run.layers) for run in runs(packed)] == [2]
    assert torch.equal(found, expected)


def example():
    torch.manual_seed(0)
    return noisy(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            QuantConv2d(16, 24, 3, padding=1, pad_value=-1.0),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(24),
            QuantConv2d(24, 40, 3, padding=1, bias=False, pad_value=-1.0),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(40),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(40 * 16, 10),
        )
    )


def test_files_copies_and_pickles_keep_the_runs(tmp_path):
    network, x = example(), torch.randn(3, 3, 16, 16)
    packed = deploy.pack(network)
    expected, found = both(network, x, packed)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    deploy.save(packed, tmp_path / "net.safetensors")
    others = [copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))]
    for other in (*others, deploy.load(tmp_path / "net.safetensors")):
        assert [len(run.layers) for run in runs(other)] == [2]
        assert torch.equal(other(x), found)


def test_watched_modules_are_called_one_by_one_with_the_same_results():
    packed, x = deploy.pack(example()), torch.randn(2, 3, 16, 16)
    expected = packed(x)
    seen = []
    packed.layer("5").register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    found = packed(x)
    assert seen[0].shape == (2, 24, 8, 8)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_changed_weights_and_layers_are_noticed():
    packed, other = deploy.pack(example()), deploy.pack(noisy(example()))
    x = torch.randn(2, 3, 16, 16)
    packed(x)
    other(x)
    packed.load_state_dict(other.state_dict())
    assert torch.equal(packed(x), other(x))
    weights = packed.layer("5").weight_bits
    weights ^= 255
    packed.layer("5").forget()
    other.module[5] = copy.deepcopy(packed.layer("5"))
    assert torch.equal(packed(x), other(x))


def test_threads_share_a_network():
    packed = deploy.pack(example())
    inputs = [torch.randn(n % 3 + 1, 3, 12 + 4 * (n % 2), 16) for n in range(6)]
    inputs = [x if x.shape[2] == 16 else torch.nn.functional.pad(x, (0, 0, 2, 2)) for x in inputs]
    expected = [deploy.pack(example())(x) for x in inputs]
    found = [[] for _ in inputs]

    def work(i):
        for _ in range(5):
            found[i].append(packed(inputs[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, e) for ys, e in zip(found, expected, strict=True) for y in ys)


def test_one_dimension_and_more_threads():
    torch.manual_seed(0)
    network = noisy(
        nn.Sequential(
            QuantConv1d(128, 256, 5, padding=2, bias=False, pad_value=0.0),
            nn.BatchNorm1d(256),
            nn.MaxPool1d(2),
            QuantConv1d(256, 256, 3, dilation=2, bias=False),
        )
    )
    packed = deploy.pack(network)
    expected, found = both(network, torch.randn(40, 128, 64), packed)
    assert torch.equal(found, expected)
    assert [len(run.layers) for run in runs(packed)] == [2]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(packed(torch.randn(0, 128, 64)), expected[:0])
        x = torch.randn(40, 128, 64)
        expected, found = both(network, x, packed)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected)


def test_rows_that_are_flattened_though_they_are_flat():
    torch.manual_seed(0)
    network = noisy(
        nn.Sequential(
            QuantLinear(40, 24), nn.BatchNorm1d(24), nn.Flatten(), QuantLinear(24, 8, bias=False)
        )
    )
    expected, found = both(network, torch.randn(50, 40), deploy.pack(network))
    assert torch.equal(found, expected)


TAILS = {
    "pooled": (lambda: [nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(27), nn.Hardtanh()], (27, 5, 4)),
    "bounded first": (lambda: [nn.BatchNorm2d(27), nn.ReLU6(), nn.MaxPool2d(2)], (27, 4, 4)),
    "mean": (
        lambda: [nn.BatchNorm2d(27), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(27, 7)],
        (7,),
    ),
    "not flattened": (lambda: [nn.ReLU(), nn.Linear(8, 3)], (27, 9, 3)),
    "much": (lambda: [nn.Flatten(), nn.Linear(27 * 72, 99, bias=False)], (99,)),
    "untracked": (lambda: [nn.BatchNorm2d(27, track_running_stats=False)], (27, 9, 8)),
}


@pytest.mark.parametrize("name", TAILS)
def test_float_layers_after_the_last_packed_one(name):
    make, shape = TAILS[name]
    torch.manual_seed(0)
    convolution = QuantConv2d(
        6,
        27,
        3,
        padding=1,
        weight_quantizer={"map": "sign", "scale": "channel_mean"},
        pad_value=-1.0,
    )
    tail = make()
    for module in tail:
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            noisy(module)
    network = nn.Sequential(convolution, *tail).eval()
    packed = deploy.pack(network, torch.randn(2, 6, 9, 8))
    assert len(runs(packed)) == (name != "untracked")
    for images in (0, 1, 7):
        x = torch.randn(images, 6, 9, 8)
        expected, found = both(network, x, packed)
        assert found.shape == expected.shape == (images, *shape)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


class Shortcut(nn.Module):
    """Bi-real: the batch norm's floats are added to before they are quantized again."""

    def __init__(self):
        super().__init__()
        self.first = QuantConv2d(8, 8, 3, padding=1, bias=False, pad_value=0.0)
        self.norm = nn.BatchNorm2d(8)
        self.second = QuantConv2d(8, 8, 3, padding=1, bias=False, pad_value=0.0)

    def forward(self, x):
        return self.second(self.norm(self.first(x)) + x)


def test_floats_before_another_quantizer_are_computed_as_in_training():
    torch.manual_seed(0)
    network = noisy(Shortcut())
    packed = deploy.pack(network)
    expected, found = both(network, torch.randn(9, 8, 15, 15), packed)
    assert runs(packed) == []
    assert torch.equal(found, expected)


def test_thresholds_of_another_number_of_channels_are_refused():
    codes = deploy.PackedLinear(BinaryInput("sign", 8), SIGNS, (4, 8)).weight_codes
    with pytest.raises(ConfigurationError, match="there are 9"):
        deploy.PackedLinear(BinaryInput("sign", 8), codes, (4, 9))
