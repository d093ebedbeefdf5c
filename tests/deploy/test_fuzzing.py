"""Files that nobody wrote: whatever they hold, they load or are refused, and cost little."""

import copy
import json
import resource
import sys
import zlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.file.save import checksum
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QuantConv2d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantLinear,
    QuantMultiheadAttention,
)

FILES = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = QuantEmbedding(20, 8)
        self.attention = QuantMultiheadAttention(8, 2, score_quantizer={"map": "lsq", "bits": 2})
        self.conv = QuantConv2d(1, 4, 3, padding=1, input_quantizer={"map": "lsq", "bits": 2})
        self.norm = nn.BatchNorm2d(4)
        self.up = QuantConvTranspose2d(4, 3, 2, stride=2)
        self.head = QuantLinear(3, 5, input_quantizer="token")

    def forward(self, x):
        x = self.table(x)
        x = self.attention(x, x, x, need_weights=False)[0]
        x = self.up(torch.relu(self.norm(self.conv(x.unsqueeze(1)))))
        return self.head(x[..., 0].mean(2))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    torch.manual_seed(0)
    net = Everything()
    net(torch.randint(0, 20, (3, 4)))
    path = tmp_path_factory.mktemp("fuzz") / "net.safetensors"
    info = {"classes": list("äßç語e"), "input_shape": [4]}
    deploy.save(deploy.pack(net.eval(), info=info), path)
    tensors, metadata = unbundled(*tensor_file.read(path))
    return path, tensors, metadata, json.loads(metadata["network"])


def places(value, at=()):
    """Return the paths to everything inside plain data."""
    found = [at]
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*at, key))
    return found


WHOLE = [-1, 0, 1, 2, 3, 7, 255, 1 << 20, 1 << 31, 1 << 40, 1 << 64, 10**400]
STRANGE = st.one_of(
    st.sampled_from([*WHOLE, None, True, "", "x", "sign", [], {}, [[]], {"ref": "x"}, "\ud800"]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.5, 1e300]),
    st.recursive(
        st.integers() | st.text(max_size=3) | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
)


def is_loaded_or_refused(path):
    try:
        network = deploy.load(path)
    except ConfigurationError:
        return None
    assert isinstance(network, deploy.PackedNetwork)
    return network


@FILES
@given(data=st.data())
def test_any_architecture_loads_or_is_refused(written, tmp_path, data):
    """One or two values of the architecture replaced, the checksum right."""
    _, tensors, metadata, spec = written
    spec = copy.deepcopy(spec)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(places(spec)[1:]))
        inside = spec
        for key in at[:-1]:
            inside = inside[key]
        inside[at[-1]] = data.draw(STRANGE)
    text = json.dumps(spec)
    if "\\ud800" in text:
        text = text.replace("\\ud800", "?")
    metadata = {**metadata, "network": text, "sha256": checksum(tensors, text)}
    tensor_file.write(tmp_path / "a", tensors, metadata)
    is_loaded_or_refused(tmp_path / "a")


@FILES
@given(data=st.data())
def test_any_header_loads_or_is_refused(written, tmp_path, data):
    """One value of the file's own header replaced, or a key given twice."""
    whole = written[0].read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    at = data.draw(st.sampled_from([p for p in places(header) if p and p[-1] != "network"]))
    inside = header
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = data.draw(STRANGE)
    text = json.dumps(header)
    if data.draw(st.booleans()):
        twice = data.draw(st.sampled_from(sorted(header)))
        text = f"{text[:-1]}, {json.dumps(twice)}: {json.dumps(header[twice])}" + "}"
    coded = text.encode()
    (tmp_path / "a").write_bytes(len(coded).to_bytes(8, "little") + coded + whole[8 + length :])
    is_loaded_or_refused(tmp_path / "a")


@FILES
@given(data=st.data())
def test_any_table_of_contents_loads_or_is_refused(written, tmp_path, data):
    """One value of the bundle's own table replaced, or its bytes cut."""
    tensors, metadata = tensor_file.read(written[0])
    key = "bundle/contents"
    head, _, rest = zlib.decompress(tensors[key].numpy().tobytes()).partition(b"\n")
    table = json.loads(head)
    at = data.draw(st.sampled_from(places(table)[1:]))
    inside = table
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = data.draw(STRANGE)
    packed = zlib.compress(json.dumps(table).encode() + b"\n" + rest)
    packed = packed[: data.draw(st.sampled_from([len(packed), len(packed) // 2]))]
    tensors[key] = torch.tensor(list(packed), dtype=torch.uint8)
    tensor_file.write(tmp_path / "a", tensors, metadata)
    is_loaded_or_refused(tmp_path / "a")


@FILES
@given(data=st.binary(max_size=200), head=st.integers(0, 300))
def test_any_bytes_are_refused(tmp_path, data, head):
    for content in (data, head.to_bytes(8, "little") + data):
        (tmp_path / "a").write_bytes(content)
        assert is_loaded_or_refused(tmp_path / "a") is None


@pytest.mark.parametrize("depth", [50, 300])
def test_deep_arguments(written, tmp_path, depth):
    _, tensors, metadata, spec = written
    text = json.dumps(spec)
    text = text.replace('"info": {', '"info": {"deep": ' + "[" * depth + "]" * depth + ", ", 1)
    metadata = {**metadata, "network": text, "sha256": checksum(tensors, text)}
    tensor_file.write(tmp_path / "a", tensors, metadata)
    is_loaded_or_refused(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_refusing_costs_no_memory(written, tmp_path):
    """Architectures that claim gigabytes."""
    _, tensors, metadata, spec = written
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for layer, claim in [
        ("conv", {"shape": [1 << 20, 1 << 14, 3, 3]}),
        ("head", {"shape": [1 << 16, 1 << 16]}),
        ("table", {"shape": [1 << 30, 8]}),
    ]:
        changed = copy.deepcopy(spec)
        changed["layers"][layer]["settings"].update(claim)
        text = json.dumps(changed)
        own = {**metadata, "network": text, "sha256": checksum(tensors, text)}
        tensor_file.write(tmp_path / "a", tensors, own)
        with pytest.raises(ConfigurationError):
            deploy.load(tmp_path / "a")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_names_in_any_alphabet(written):
    assert deploy.load(written[0]).info["classes"] == list("äßç語e")
