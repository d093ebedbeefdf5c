"""The packed file: its size, and files that are damaged or hostile."""

import json
import random
import subprocess
import sys
import zlib

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import bundled, unbundled
from ste_lightning.deploy.file.save import checksum
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantLinear


@pytest.fixture(scope="module")
def packed():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        QuantLinear(16 * 36, 10, input_quantizer={"map": "lsq", "bits": 2}),
        nn.BatchNorm1d(10),
    )
    network(torch.randn(4, 1, 8, 8))  # the last quantizer has to see its range
    return deploy.pack(network.eval())


@pytest.fixture(scope="module")
def path(packed, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "net.safetensors"
    deploy.save(packed, path)
    return path


def test_binary_weights_take_one_bit(tmp_path):
    network = nn.Sequential(QuantLinear(1024, 1024, bias=False), QuantLinear(1024, 512, bias=False))
    size = deploy.save(deploy.pack(network), tmp_path / "net.safetensors")
    binary = 1024 * 1024 + 1024 * 512
    assert size <= binary / 8 * 1.02


def test_other_readers_of_safetensors(path, packed):
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(path)
    tensors, _ = unbundled(tensors, {})
    state = packed.state_dict()
    for name, tensor in tensors.items():
        value = state["module." + name.removeprefix("@")]
        assert torch.equal(tensor.to(value), value)


def test_truncated_and_flipped_files_are_refused(path, tmp_path):
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = tmp_path / "damaged.safetensors"
    header = int.from_bytes(whole[:8], "little")
    for trial in range(150):
        if trial % 3 == 0:
            data = whole[: rng.randrange(len(whole))]
        else:
            flipped = bytearray(whole)
            at = rng.randrange(len(whole) if trial % 3 == 1 else 8 + header)
            flipped[at] ^= 1 << rng.randrange(8)
            data = bytes(flipped)
        damaged.write_bytes(data)
        try:
            loaded = deploy.load(damaged)
        except ConfigurationError:
            continue
        # What is not covered by the checksum is how the file was made and blanks.
        x = torch.zeros(1, 1, 8, 8)
        assert torch.equal(loaded(x), deploy.load(path)(x))


def rewritten(path, target, change):
    """Write the file with a changed architecture or tensors and a matching checksum."""
    tensors, metadata = unbundled(*tensor_file.read(path))
    spec = json.loads(metadata["network"])
    change(spec, tensors, metadata)
    text = json.dumps(spec)
    metadata["network"] = text
    metadata["sha256"] = checksum(tensors, text)
    tensor_file.write(target, tensors, metadata)


def set_shape(shape):
    def change(spec, tensors, metadata):
        spec["layers"]["5"]["settings"]["shape"] = shape

    return change


def edit(*keys, value):
    def change(spec, tensors, metadata):
        for key in keys[:-1]:
            spec = spec[key]
        spec[keys[-1]] = value

    return change


def drop_tensor(spec, tensors, metadata):
    tensors.popitem()


def add_tensor(spec, tensors, metadata):
    tensors["more"] = torch.zeros(1)


def not_finite(spec, tensors, metadata):
    tensors["@0.weight"][0] = float("nan")


def newer(spec, tensors, metadata):
    metadata["version"] = "3"


def first_step(target):
    return edit("steps", 0, value=["a", target, []])


def first_argument(value):
    return edit("steps", 0, 2, 0, value=value)


def added(*steps):
    """Steps after the others, of which the last one's result is returned."""

    def change(spec, tensors, metadata):
        spec["steps"] += steps
        spec["output"] = {"ref": steps[-1][0]}

    return change


def half_as_half(spec, tensors, metadata):
    spec["constants"]["@0.weight"] = "float16"
    tensors["@0.weight"] = tensors["@0.weight"].half()


HUGE_PAD = edit("layers", "2", "settings", "geometry", "padding", value=[[1 << 20, 0], [0, 0]])
MANY_THRESHOLDS = edit("layers", "5", "settings", "input", "count", value=1 << 30)
HOSTILE = {
    "huge layer": (set_shape([1 << 30, 1 << 30]), "bytes|needs|built|cannot"),
    "negative size": (set_shape([-1, 5]), "whole numbers"),
    "shape of strings": (set_shape(["a", 5]), "whole numbers"),
    "no shape": (set_shape(None), "whole numbers|shape"),
    "huge padding": (HUGE_PAD, "padding"),
    "huge number": (first_argument(1 << 70), "number"),
    "unknown function": (first_step("eval"), "eval"),
    "private method": (first_step(".__class__"), "__class__"),
    "undefined reference": (first_argument({"ref": "nothing"}), "before it is made"),
    "strange argument": (first_argument({"code": "x"}), "not known"),
    "steps are a number": (edit("steps", value=3), "steps"),
    "no output": (edit("output", value=None), "output"),
    "unknown layer": (edit("layers", "2", value={"type": "Exec", "settings": {}}), "Exec"),
    "wrong setting": (edit("layers", "2", "settings", "groups", value="x"), "layer '2'"),
    "unknown setting": (edit("layers", "5", "settings", "evil", value=1), "layer '5'"),
    "bits of 99": (edit("layers", "5", "settings", "weight", value=[99, 1, 0]), "bits"),
    "thresholds": (MANY_THRESHOLDS, "count"),
    "scale that is no number": (
        edit("layers", "5", "settings", "input", "scale", value=float("nan")),
        "number nan",
    ),
    "endless scale": (
        edit("layers", "5", "settings", "input", "scale", value=float("inf")),
        "number inf",
    ),
    "unknown input": (edit("layers", "5", "settings", "input", "kind", value="x"), "input"),
    "huge result": (edit("steps", 0, value=["conv2d", "arange", [1 << 40]]), "plausible"),
    "too much in all": (
        added(*([f"a{i}", "zeros", [[1 << 25]]] for i in range(4))),
        "not plausible .up to 'a",
    ),
    "type by its number": (added(["a", "view.dtype", [{"ref": "conv2d"}, -2]]), "dtype=-2"),
    "transform whose axes torch does not check": (
        added(["a", "_fft_r2c", [{"ref": "conv2d"}, [-2], 2, True]]),
        "_fft_r2c",
    ),
    "nothing, in a great many rows": (
        added(["a", "adaptive_max_pool2d", [{"ref": "conv2d"}, [1 << 40, 0]]]),
        "plausible",
    ),
    "a great many combinations": (
        added(["a", "combinations", [{"ref": "conv2d"}, 1 << 40, True]]),
        "combinations",
    ),
    "constant of a list": (edit("constants", "@0.weight", value=[1]), r"says \[1\]"),
    "constant of another type": (edit("constants", "@0.weight", value="int8"), "says int8"),
    "worthless levels": (edit("layers", "5", "settings", "input", "scale", value=0), "scale=0"),
    "argument of another type": (first_argument("x"), "cannot be computed"),
    "another size": (edit("inputs", 0, 3, value=[2, 5, 8, 8]), "sizes|computed"),
    "size that is fixed otherwise": (edit("inputs", 0, 2, value=[2, 5, 8, 8]), "sizes"),
    "result made twice": (edit("steps", 1, 0, value="conv2d"), "twice"),
    "another layer": (edit("steps", 2, 1, value="layer 5"), "computed|differ|channels"),
    "no such layer": (edit("steps", 2, 1, value="layer x"), "no layer"),
    "unknown type": (edit("inputs", 0, 1, value="float99"), "float99"),
    "tensor of another name": (edit("same", value={"@x": "@y"}), "equal to none"),
    "missing tensor": (drop_tensor, "missing"),
    "extra tensor": (add_tensor, "no tensor"),
    "not a number": (not_finite, "not finite"),
    "newer version": (newer, "update"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_architectures_are_refused(name, path, tmp_path):
    change, message = HOSTILE[name]
    target = tmp_path / "hostile.safetensors"
    rewritten(path, target, change)
    with pytest.raises(ConfigurationError, match=message):
        deploy.load(target)


def test_what_rules_of_sizes_let_through_is_refused_when_it_is_computed(path, tmp_path):
    rewritten(path, tmp_path / "half.safetensors", half_as_half)
    network = deploy.load(tmp_path / "half.safetensors")
    with pytest.raises(ConfigurationError, match="from this file cannot be computed"):
        network(torch.zeros(1, 1, 8, 8))


def header_of(entry, data=b""):
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype, shape, *offsets):
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


RAW = {
    "empty": b"",
    "short": b"abc",
    "header beyond the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"\xff\xfe{}",
    "deep json": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "a list": header_of([1]),
    "huge claim": header_of({"a": tensor("U8", [1 << 40], 0, 1 << 40)}),
    "shape and size differ": header_of({"a": tensor("F32", [3], 0, 4)}, b"1234"),
    "overlap": header_of({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, b"123456"),
    "a key twice": (15).to_bytes(8, "little") + b'{"a":{},"a":{}}',
    "unknown type": header_of({"a": tensor("X", [], 0, 0)}),
    "offsets of strings": header_of({"a": tensor("U8", [0], "0", "0")}),
    "left over": header_of({}, b"123"),
    "foreign": header_of({"a": tensor("U8", [1], 0, 1)}, b"1"),
}


@pytest.mark.parametrize("name", RAW)
def test_files_that_are_no_packed_network(name, tmp_path):
    target = tmp_path / "raw.safetensors"
    target.write_bytes(RAW[name])
    with pytest.raises(ConfigurationError, match="cannot be used"):
        deploy.load(target)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        deploy.load(tmp_path / "missing")


def test_nothing_half_written_and_info_is_plain(packed, tmp_path):
    strange = deploy.pack(nn.Sequential(QuantLinear(2, 2)), info={"classes": {1, 2}})
    with pytest.raises(ConfigurationError, match="info"):
        deploy.save(strange, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_import_needs_no_training_framework():
    code = (
        "import sys, ste_lightning.deploy; "
        "print([m for m in ('lightning', 'hydra', 'numba', 'torchmetrics', 'matplotlib') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_bundles_give_back_every_bit():
    uneven = torch.tensor([-4.0, -1e-30, 0.0, 1e-30, *range(1, 14)])
    tensors = {
        "a.thresholds": torch.linspace(-1.7, 3.3, 255).view(1, 255),
        "b.thresholds": torch.arange(-7.5, 7.5).repeat(3, 1) * torch.tensor([[0.1], [1.0], [1e-6]]),
        "c.thresholds": uneven,
        "d.thresholds": torch.arange(255).half(),
        "e.thresholds": torch.full((15,), torch.inf),
        "few.thresholds": torch.arange(3.0),
        "large": torch.randn(600),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3),
        "bits": torch.randint(0, 255, (5, 7)).byte(),
    }
    found, metadata = bundled(tensors, {"network": "{}\n", "version": "2"})
    assert set(found) == {
        *("large", "bundle/contents", "bundle/thresholds"),
        *("bundle/small/F32", "bundle/small/I64", "bundle/small/U8"),
    }
    assert found["bundle/thresholds"].numel() < 4 * (255 + 45 + 255) / 4
    assert "network" not in metadata
    back, metadata = unbundled(found, metadata)
    assert metadata == {"network": "{}\n", "version": "2"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert unbundled(tensors, metadata) == (tensors, metadata)


def test_what_is_compressed_cannot_unfold_to_more_than_it_says():
    found, _ = bundled({"a.thresholds": torch.linspace(0, 1, 255)}, {"network": ""})
    bomb = zlib.compress(bytes(100 << 20), 9)
    found["bundle/thresholds"] = torch.frombuffer(bytearray(bomb), dtype=torch.uint8)
    with pytest.raises(ConfigurationError, match="another size"):
        unbundled(found, {})
    found["bundle/contents"] = found["bundle/thresholds"]
    with pytest.raises(ConfigurationError, match="another size"):
        unbundled(found, {})
