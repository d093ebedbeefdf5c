"""Exported pages run networks as Python does, and refuse what they cannot; in Node."""

import base64
import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from quantizer_pairs import LSQ, PAIRS
from torch import nn

from ste_lightning import deploy
from ste_lightning.data import Digits
from ste_lightning.deploy.export import export, runtime
from ste_lightning.deploy.export.export import write
from ste_lightning.deploy.export.html import page
from ste_lightning.deploy.export.html.page import runs
from ste_lightning.deploy.predict import Preprocessing
from ste_lightning.deploy.predict.preprocessing import INTERPOLATIONS
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantConv3d, QuantConvTranspose2d, QuantLinear
from ste_lightning.models.networks import MLP, ConvNet

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
FOUR = {"map": "uniform", "bits": 4}
SIGNS = {"weight_quantizer": "sign", "input_quantizer": "sign"}
NETWORKS = {
    "MLP W1A1": lambda: MLP(),
    "CNN W1A1": lambda: ConvNet(),
    "CNN W4A4": lambda: ConvNet(weight_quantizer=FOUR, input_quantizer=FOUR),
    "MLP W1.58A8": lambda: MLP(weight_quantizer="bitnet", input_quantizer="token"),
}


@pytest.fixture(scope="module")
def digits():
    data = Digits()
    data.setup()
    return data


def trained(net, x, y, steps):
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for rows in torch.randperm(len(x))[: 64 * steps].split(64):
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net.eval()


def in_node(code: str, given: object = None) -> object:
    """Return what code makes of ``given`` beside the page's kernel."""
    kernel = page().split(' id="kernel">')[1].split("</script>")[0]
    program = (
        f"{kernel}\nconst given = JSON.parse(require('fs').readFileSync(0));\n"
        f"(async () => {{ {code} }})().then((found) => console.log(JSON.stringify(found)));"
    )
    done = subprocess.run(
        ["node", "-e", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize("name", NETWORKS)
def test_all_test_digits_are_predicted_as_in_python(name, digits, tmp_path):
    torch.manual_seed(0)
    train, x = digits.train_part, digits.test_part.images
    net = trained(NETWORKS[name](), train.images, train.labels, 19)
    packed = deploy.pack(net, x[:4])
    path = export(packed, tmp_path / "net.html", "html", x)
    expected, found = packed(x), runtime(path, "html")(x)
    right = expected.argmax(1) == digits.test_part.labels
    assert len(x) == 360
    assert right.float().mean() > 0.7
    assert (found.argmax(1) == expected.argmax(1)).all()
    near = (found - expected).abs().amax(1) <= 1e-5 * float(expected.abs().max())
    assert near.float().mean() > 0.97  # a sum within rounding of a threshold may turn


class Several(nn.Module):
    """What packed layers and operators the page runs, beyond those networks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 36, 3, stride=2, padding=1, dilation=2)
        self.norm, self.plain = nn.BatchNorm2d(36), nn.BatchNorm2d(36, affine=False)
        self.ones = QuantConv2d(36, 36, 3, padding=1, pad_value=1.0, **SIGNS)
        self.zeros = QuantConv2d(36, 8, (1, 3), padding=(0, 1), bias=False, **SIGNS)
        self.grouped = QuantConv2d(
            36,
            8,
            3,
            stride=2,
            groups=2,
            dilation=1,
            weight_quantizer="ternary",
            input_quantizer=LSQ,
        )
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.last = QuantLinear(8, 5, weight_quantizer=FOUR, input_quantizer=None)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = self.plain(self.ones(x)) + x
        y = F.avg_pool2d(F.hardtanh(self.zeros(x)), 2) * 0.5
        z = F.pad(
            F.max_pool2d(self.grouped(F.relu(x)), 3, 1, 1)[:, :, 1:], (0, 1, 1, 1), value=0.25
        )
        y = y[:, :, :3, :3] - self.depthwise(z).sigmoid().reshape(len(x), 8, 3, -1)
        y = F.adaptive_avg_pool2d(F.silu(y) / 1.5, 1).abs()
        return F.log_softmax(self.last(y.view(-1, 8).clamp(-3, 3)), -1)


@needs_node
@pytest.mark.slow  # torch.export takes ten seconds
def test_other_layers_and_operators(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(40, 2, 14, 14)
    net = trained(Several(), x, torch.arange(40) % 5, 1)
    packed = deploy.pack(net, x)
    found = runtime(export(packed, tmp_path / "net.html", "html", x), "html")(x)
    expected = packed(x)
    assert (expected.std(0) > 1e-3).all()
    assert ((found - expected).abs().amax(1) <= 1e-5).float().mean() > 0.9


class Kinds(nn.Module):
    """Layers of every kind of quantizer, side by side."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList()
        for weight, inputs in PAIRS.values():
            kinds = {"weight_quantizer": weight, "input_quantizer": inputs}
            self.parts.append(
                nn.Sequential(
                    QuantLinear(70, 40, **kinds), nn.BatchNorm1d(40), QuantLinear(40, 3, **kinds)
                )
            )

    def forward(self, x):
        y = self.parts[0](x)
        for i, part in enumerate(self.parts[1:], 2):
            y = y * 0.25 + part(x) / i
        return y


@needs_node
def test_every_kind_of_quantizer(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(30, 70)
    packed = deploy.pack(trained(Kinds(), x, torch.arange(30) % 3, 1), x)
    found = runtime(export(packed, tmp_path / "net.html", "html", x), "html")(x)
    expected = packed(x)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_what_has_no_javascript_is_refused_by_name(tmp_path):
    def exported(net, x):
        return export(deploy.pack(net.eval(), x), tmp_path / "net.html", "html", x)

    with pytest.raises(ConfigurationError, match="format='html' has no gelu"):
        exported(nn.Sequential(QuantLinear(6, 4), nn.GELU()), torch.randn(2, 6))
    with pytest.raises(ConfigurationError, match="has no PackedConvTranspose"):
        exported(nn.Sequential(QuantConvTranspose2d(2, 3, 3)), torch.randn(2, 2, 5, 5))
    assert not list(tmp_path.iterdir())


@needs_node
@pytest.mark.parametrize(
    ("net", "x", "reason"),
    [
        (QuantConv3d(2, 3, 2, **SIGNS), (2, 4, 4, 4), "3 dimensions"),
        (
            QuantConv2d(2, 3, 3, padding=1, padding_mode="circular", **SIGNS),
            (2, 4, 4),
            "pads by circular",
        ),
        (nn.MaxPool2d(2, ceil_mode=True), (2, 5, 5), "operator max_pool2d .* rounds sizes up"),
        (nn.AdaptiveAvgPool2d(2), (2, 5, 5), "operator adaptive_avg_pool2d .* 2,2 of 5,5"),
    ],
)
def test_what_the_page_refuses_when_it_is_opened(net, x, reason, tmp_path):
    x = torch.randn(2, *x)
    net = nn.Sequential(
        net, nn.Flatten(), QuantLinear(net(x)[0].numel(), 3, weight_quantizer="sign")
    )
    path = tmp_path / "net.html"
    write(deploy.pack(net.eval(), x), path, "html", x)
    with pytest.raises(ConfigurationError, match=reason):
        runtime(path, "html")
    with pytest.raises(ConfigurationError, match=reason):  # it is opened before it is kept
        export(deploy.pack(net, x), tmp_path / "kept.html", "html", x)
    assert [*tmp_path.iterdir()] == [path]


OPENED = """
  const found = [];
  for (const text of given) {
    try {
      const network = await openedNetwork(bytesOf(text));
      network.input.data.fill(0.5);
      found.push(Array.from(network.run()));
    } catch (error) {
      found.push(error instanceof Refusal ? error.message : { wrong: String(error) });
    }
  }
  return found;
"""


def opened(files: list[bytes]) -> list[object]:
    found = in_node(OPENED, [base64.b64encode(one).decode() for one in files])
    assert isinstance(found, list)
    return found


@needs_node
def test_damaged_and_foreign_files_are_refused(tmp_path):
    import safetensors.torch

    torch.manual_seed(0)
    net = nn.Sequential(
        QuantConv2d(1, 4, 3, weight_quantizer=FOUR, input_quantizer=FOUR),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        QuantLinear(64, 3, **SIGNS),
    )
    x = torch.randn(8, 1, 6, 6)
    packed = deploy.pack(trained(net, x, torch.arange(8) % 3, 1), x)
    deploy.save(packed, tmp_path / "net.safetensors")
    sound = (tmp_path / "net.safetensors").read_bytes()
    foreign = safetensors.torch.save({"x": torch.zeros(3)}, {"format": "pt"})
    later = sound.replace(b'"version":"2"', b'"version":"9"')
    earlier = sound.replace(b'"version":"2"', b'"version":"1"')
    zipped, cut, more = b"PK\x03\x04" + sound, sound[:-7], sound + b"\0"
    given = [sound, foreign, later, earlier, zipped, cut, more, b"", sound[:5]]
    reasons = ["not a packed network", "use a newer page", "newest ste_lightning", "zip archive"]
    reasons += ["cut off", "more than", "not a safetensors", "not a safetensors"]
    answers = opened(given)
    reference = answers[0]
    assert np.allclose(reference, packed(torch.full((1, 1, 6, 6), 0.5))[0], atol=1e-5)
    for answer, reason in zip(answers[1:], reasons, strict=True):
        assert reason in str(answer), answer
    rng = np.random.default_rng(0)
    damaged = []
    for _ in range(300):
        one = bytearray(sound)
        one[rng.integers(len(one))] ^= 1 << rng.integers(8)
        damaged.append(bytes(one))
    answers = opened(damaged)
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) > 250  # what is left is in spaces, and in the names of the versions
    assert all(answer == reference for answer in answers if not isinstance(answer, str)), answers


@needs_node
def test_changed_architectures_are_refused_or_run(tmp_path):
    """Files with a right checksum, whose numbers say something else."""
    from ste_lightning.deploy.file.save import contents, write_spec

    torch.manual_seed(0)
    x = torch.randn(8, 1, 6, 6)
    net = nn.Sequential(
        QuantConv2d(1, 4, 3, **SIGNS), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    packed = deploy.pack(net.eval(), x)
    packed(x)
    spec, tensors = contents(packed)
    text = json.dumps(spec)
    places = [i for i, letter in enumerate(text) if letter.isdigit()]
    files = []
    rng = np.random.default_rng(0)
    for index in rng.choice(places, 60):
        for digit in ("9", "-1", "99999", "null", "[]"):
            changed = f"{text[:index]}{digit}{text[index + 1 :]}"
            try:
                write_spec(json.loads(changed), tensors, tmp_path / "changed.safetensors")
            except (ValueError, ConfigurationError):
                continue
            files.append((tmp_path / "changed.safetensors").read_bytes())
    answers = opened(files)
    assert len(answers) > 100
    assert sum(isinstance(answer, str) for answer in answers) > 50
    assert not [answer for answer in answers if isinstance(answer, dict)]


RESIZED = """
  return given.map(({ picture, width, height, interpolation, info, shape }) => {
    const seen = resized(picture, width, height, interpolation);
    const x = new Float32Array(shape.reduce((a, b) => a * b, 1));
    normalized(preprocessingOf({ input: { shape }, info }), seen, x);
    return [Array.from(seen.data), Array.from(x)];
  });
"""


@needs_node
def test_pictures_become_what_predict_makes_of_them():
    image = pytest.importorskip("PIL.Image")
    from ste_lightning.deploy.predict.pictures import pixels

    rng = np.random.default_rng(0)
    given, expected = [], []
    cases = [((40, 40), (1, 8, 8)), ((9, 31), (3, 28, 13))]
    for interpolation, ((height, width), shape) in itertools.product(INTERPOLATIONS, cases):
        picture = rng.integers(0, 256, (height, width), dtype=np.uint8)
        limits = {"range": [0, 16] if shape[0] == 1 else [0, 1], "interpolation": interpolation}
        constants = {"mean": [0.3] * shape[0], "std": [0.7]}
        info = {"input_shape": list(shape), "preprocessing": {**limits, **constants}}
        pixels_of = {"width": width, "height": height, "data": picture.ravel().tolist()}
        size = {"height": shape[1], "width": shape[2], "shape": [1, *shape]}
        given.append({"picture": pixels_of, "interpolation": interpolation, "info": info, **size})
        how = Preprocessing.of(info)
        seen = torch.from_numpy(pixels(image.fromarray(picture), how).copy())
        expected.append((seen[0] * 255, how.normalized(how.scaled(seen)[None])[0]))
    for found, wanted in zip(in_node(RESIZED, given), expected, strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert torch.allclose(
                torch.tensor(one, dtype=torch.float32), other.flatten(), rtol=0, atol=1e-5
            )


@needs_node
def test_what_would_become_another_picture_is_refused():
    code = """
      const input = { shape: [1, 1, 8, 8] };
      return given.map((preprocessing) => {
        try {
          return preprocessingOf({ input, info: { preprocessing } }).classes;
        } catch (error) {
          return error instanceof Refusal ? error.message : String(error);
        }
      });"""
    sizes = [{}, {"resize": "fit"}, {"resize": [8, 8], "crop": [8, 8]}, {"resize": [8]}]
    sizes += [{"resize": [16, 16], "crop": [8, 8]}, {"crop": [8, 8]}, {"interpolation": "cubic"}]
    given = [{"range": [0, 1], **size} for size in sizes] + [{"std": [0]}, {"mean": [1.5]}]
    *right, shorter, cropped, alone, unknown, deviation, limits = in_node(code, given)
    assert right == [None] * 3
    for one in (shorter, cropped, alone):
        assert "crops pictures" in one
    assert "interpolation is cubic" in unknown
    assert "deviation is not positive" in deviation
    assert "which range" in limits


@needs_node
def test_names_are_those_of_the_javascript():
    found = in_node("return [OPERATORS, SIZES, LAYERS].flatMap(Object.keys);")
    assert sorted(found) == sorted(runs())


def test_without_node_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "net.html").write_text(page())
    assert runtime(tmp_path / "net.html", "html") is None


@needs_node
def test_the_process_ends_and_other_sizes_are_refused(tmp_path):
    net = nn.Sequential(QuantLinear(6, 4, **SIGNS))
    run = runtime(
        export(
            deploy.pack(net.eval(), torch.randn(2, 6)),
            tmp_path / "n.html",
            "html",
            torch.randn(2, 6),
        ),
        "html",
    )
    with pytest.raises(ConfigurationError, match="cannot be used"):
        run(torch.randn(2, 7))


def test_the_page_asks_no_network():
    text = page(b"x")
    assert "@@" not in text
    assert "http" not in text
    assert "@import" not in text
