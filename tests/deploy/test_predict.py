"""What predict makes of pictures and arrays, with values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from ste_lightning import deploy
from ste_lightning.data import Digits, ImageFolder
from ste_lightning.deploy.predict import Preprocessing
from ste_lightning.deploy.predict.pictures import pixels
from ste_lightning.deploy.predict.samples import open_samples
from ste_lightning.deploy.predict.transforms import preprocessing_of
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear
from ste_lightning.predict import main
from ste_lightning.running.model_info import model_info

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")
USUAL = {"range": [0, 1], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
RNG = np.random.default_rng(0)


def inputs(source, shape=(3, 8, 8), normalize=True, limits=None, **preprocessing):
    """What the network gets."""
    info = {"input_shape": list(shape), "preprocessing": preprocessing}
    samples = open_samples(source, Preprocessing.of(info), normalize=normalize, limits=limits)
    (batch,) = samples.batches(64)
    assert not batch.failed
    return batch.x


def test_torchvisions_usual_constants() -> None:
    array = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mean, std = (np.array(USUAL[key])[:, None, None] for key in ("mean", "std"))
    expected = (array.transpose(2, 0, 1) / 255 - mean) / std
    for source in (Image.fromarray(array), array[None], array, array.transpose(2, 0, 1)):
        np.testing.assert_allclose(inputs(source, **USUAL)[0], expected, rtol=1e-5, atol=1e-6)
    floats = (array / 255).astype(np.float32)
    np.testing.assert_allclose(inputs(floats, **USUAL)[0], expected, rtol=1e-5, atol=1e-6)
    in_bytes = {key: [255 * v for v in USUAL[key]] for key in ("mean", "std")}
    x = inputs(Image.fromarray(array), range=[0, 255], **in_bytes)
    np.testing.assert_allclose(x[0], expected, rtol=1e-5, atol=1e-5)


def test_bgr_is_the_order_of_pictures_and_of_the_means() -> None:
    array = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    caffe = {"channels": "bgr", "range": [0, 255], "mean": [104, 117, 124]}
    expected = array[..., ::-1].transpose(2, 0, 1) - np.array([104, 117, 124])[:, None, None]
    np.testing.assert_allclose(inputs(Image.fromarray(array), **caffe)[0], expected, atol=1e-4)


def test_the_range_of_old_files_follows_from_their_constants_or_is_asked_for() -> None:
    picture = Image.new("RGB", (8, 8), (255, 255, 255))

    def first(**constants):
        info = {"input_shape": [3, 8, 8], "normalization": constants}
        samples = open_samples(picture, Preprocessing.of(info))
        assert "fit 0.." in samples.remark
        return float(next(samples.batches(1)).x[0, 0, 0, 0])

    assert first(mean=[0.5], std=[0.5]) == 1
    assert first(mean=[127.5], std=[127.5]) == 1
    for unclear in ({"mean": [4.9], "std": [6.0]}, {"mean": [0], "std": [1]}, {}):
        with pytest.raises(ConfigurationError, match=r"range=0\.\.1"):
            inputs(picture, **unclear)


def test_resize_and_crop_are_torchvisions() -> None:
    wide = Image.fromarray(RNG.integers(0, 256, (30, 61), dtype=np.uint8))
    x = inputs(wide, (1, 8, 8), range=[0, 255], resize=12, crop=8)
    by_hand = np.asarray(wide.resize((24, 12), Image.Resampling.BILINEAR))[2:10, 8:16]
    np.testing.assert_array_equal(x[0, 0], by_hand)
    small = Image.new("L", (5, 6), 9)
    x = inputs(small, (1, 8, 8), range=[0, 255], crop=[8, 8])[0, 0]
    assert int((x == 9).sum()) == 30
    assert int(x[0].sum() + x[7].sum() + x[:, 0].sum() + x[:, 6:].sum()) == 0
    covered = inputs(wide, (1, 8, 8), range=[0, 255], resize="fit")
    fitted = ImageOps.fit(wide, (8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(covered[0, 0], np.asarray(fitted))
    nearest = inputs(wide, (1, 8, 8), range=[0, 255], resize=[8, 8], interpolation="nearest")
    assert set(nearest.unique().tolist()) <= set(np.asarray(wide).ravel().tolist())


def test_grey_alpha_palettes_16_bits_and_turned_pictures() -> None:
    grey = Preprocessing.of({"input_shape": [1, 2, 2], "preprocessing": {"background": 0}})
    rgb = Preprocessing.of({"input_shape": [3, 2, 2]})
    flat = Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8))
    wanted = np.array([[0, 0.2], [0.4, 1]])
    for mode in ("L", "RGB", "RGBA", "P", "LA", "CMYK"):
        np.testing.assert_allclose(pixels(flat.convert(mode), grey)[0], wanted, atol=1e-6)
    assert pixels(flat, rgb).shape == (3, 2, 2)
    clear = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    assert np.all(pixels(clear, grey) == 0)
    assert np.all(pixels(clear, rgb) == 1)
    deep = Image.fromarray(np.array([[0, 13107], [26214, 65535]], np.uint16))
    np.testing.assert_allclose(pixels(deep, grey)[0], wanted, atol=1e-6)
    np.testing.assert_allclose(pixels(deep, rgb)[2], wanted, atol=1e-6)
    with pytest.raises(ConfigurationError, match="floats"):
        pixels(flat.convert("F"), grey)
    with pytest.raises(ConfigurationError, match="16 bits"):
        pixels(Image.fromarray(np.full((2, 2), 70000, np.int32)), grey)


def test_exif_turns_the_picture(tmp_path) -> None:
    array = np.zeros((4, 8), np.uint8)
    array[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    x = inputs(str(tmp_path / "a.png"), (1, 8, 4), range=[0, 1])[0, 0]
    assert torch.equal(x, torch.tensor(np.rot90(array, -1).copy()) / 255)


SHAPES = [
    ((5, 3, 8, 6), (3, 8, 6), True),
    ((5, 8, 6, 3), (3, 8, 6), True),
    ((8, 6, 3), (3, 8, 6), True),
    ((3, 8, 6), (3, 8, 6), True),
    ((5, 144), (3, 8, 6), True),
    ((144,), (3, 8, 6), True),
    ((5, 6, 8, 3), (3, 8, 6), False),
    ((5, 8, 3, 6), (3, 8, 6), False),
    ((5, 48, 3), (3, 8, 6), False),
    ((5, 8, 6), (1, 8, 6), True),
    ((8, 6), (1, 8, 6), True),
    ((5, 6, 8), (1, 8, 6), False),
    ((5, 4, 3), (3, 4), False),  # a sequence is not turned: no axis is one of channels for sure
    ((5, 8, 8), (64,), False),
    ((5, 3, 9, 7), (3, None, None), True),
    ((5, 7), (7,), True),
]


@pytest.mark.parametrize(("given", "shape", "right"), SHAPES)
def test_axes_are_turned_or_refused_never_reshaped(given, shape, right) -> None:
    array = RNG.standard_normal(given).astype(np.float32)
    if not right:
        with pytest.raises(ConfigurationError, match="shape"):
            inputs(array, shape)
        return
    x = inputs(array, shape).numpy()
    assert x.ndim == len(shape) + 1
    last = len(given) > 2 and len(shape) == 3 and given[-3:] == (8, 6, 3)
    turned = np.moveaxis(array.reshape(-1, 8, 6, 3), -1, 1) if last else array
    np.testing.assert_array_equal(x.ravel(), turned.ravel())


def test_numbers_that_cannot_be_pixels_of_this_range_are_refused() -> None:
    ready = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    with pytest.raises(ConfigurationError, match="normalize=false"):
        inputs(ready, **USUAL)
    assert torch.equal(inputs(ready, normalize=False, **USUAL), torch.tensor(ready))
    with pytest.raises(ConfigurationError, match=r"pixels=0\.\.255"):
        inputs(np.full((2, 3, 8, 8), 200.0), **USUAL)
    bytes_ = inputs(np.full((2, 3, 8, 8), 200.0), limits=(0, 255), **USUAL)
    assert torch.allclose(bytes_, inputs(np.full((2, 3, 8, 8), 200, np.uint8), **USUAL))
    tokens = Preprocessing.of({"input_shape": [4], "input_dtype": "int64"})
    (batch,) = open_samples(np.arange(8.0).reshape(2, 4), tokens).batches(4)
    assert batch.x.dtype == torch.int64
    with pytest.raises(ConfigurationError, match="whole numbers"):
        next(open_samples(np.full((2, 4), 0.5), tokens).batches(4))


WRONG = {
    "Did you mean 'mean'": {"means": [0.5]},
    "channels": {"channels": "gbr"},
    "rising": {"range": [1, 0]},
    "positive": {"std": [0.0]},
    "one per channel": {"mean": [0.1, 0.2]},
    "crop": {"crop": [4, 4]},
    "resize": {"resize": [9, 8]},
    "fit crops": {"resize": "fit", "crop": [8, 8]},
    "interpolation": {"interpolation": "cubic"},
    "background": {"background": 256},
    "finite": {"mean": [float("nan")]},
    "samples of shape": {"channels": "grey"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_preprocessing_is_named(message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Preprocessing.of({"input_shape": [3, 8, 8], "preprocessing": WRONG[message]})


@pytest.mark.parametrize("stated", [{"background": 0}, {"mean": [0.5]}, {"std": [0.1, 0.2, 0.3]}])
def test_preprocessing_at_its_limits_is_taken(stated) -> None:
    made = Preprocessing.of({"input_shape": [3, 8, 6], "preprocessing": stated})
    for key, value in stated.items():
        found = getattr(made, key)
        assert (found if key == "background" else list(found)) == value


@pytest.mark.parametrize("stated", [{"mean": [0.1] * 8}, {"mean": [0.1, 0.2]}])
def test_one_mean_for_each_channel(stated) -> None:
    with pytest.raises(ConfigurationError, match="one per channel"):
        Preprocessing.of({"input_shape": [3, 8, 6], "preprocessing": stated})


@pytest.mark.parametrize("most", [1, 16])
def test_bytes_that_could_be_either_are_asked_for(most) -> None:
    info = {"input_shape": [1, 2, 2], "preprocessing": {"channels": "grey", "range": [0, 16]}}
    with pytest.raises(ConfigurationError, match="up to 16"):
        open_samples(np.full((1, 2, 2), most, np.uint8), Preprocessing.of(info))
    open_samples(np.full((1, 2, 2), 17, np.uint8), Preprocessing.of(info))


def test_torchvisions_transforms_are_read() -> None:
    def transform(kind, **attributes):
        return type(kind, (), attributes)()

    parts = [
        transform("Resize", size=256, interpolation="bicubic"),
        transform("CenterCrop", size=(224, 224)),
        transform("Grayscale", num_output_channels=1),
        transform("ToTensor"),
        transform("Normalize", mean=(0.1307,), std=(0.3081,)),
    ]
    assert preprocessing_of(transform("Compose", transforms=parts)) == {
        "resize": [256],
        "interpolation": "bicubic",
        "crop": [224, 224],
        "channels": "grey",
        "range": [0, 1],
        "mean": [0.1307],
        "std": [0.3081],
    }
    weights = transform("ImageClassification", resize_size=[256], crop_size=[224],
                        mean=USUAL["mean"], std=USUAL["std"], interpolation="bilinear")  # fmt: skip
    assert Preprocessing.of({"preprocessing": preprocessing_of(weights)}).size == (224, 224)
    with pytest.raises(ConfigurationError, match="Solarize"):
        preprocessing_of(transform("Solarize"))
    with pytest.raises(ConfigurationError, match="too late"):
        preprocessing_of(transform("Compose", transforms=parts[::-1]))


class Ends(nn.Module):
    """Ends as networks do: one tensor, a mapping of them, probabilities."""

    def __init__(self, end) -> None:
        super().__init__()
        self.layer, self.end, self.info = nn.Linear(4, 2), end, {"classes": ["a", "b"]}

    def forward(self, x):
        return self.end(self.layer(x))


def test_mappings_tuples_and_probabilities() -> None:
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    found = []
    for end in (
        lambda y: y,
        lambda y: {"logits": y, "other": y[0]},
        lambda y: (y, None),
        lambda y: y.softmax(1),
    ):
        torch.manual_seed(0)
        found.append(deploy.predict.predict(Ends(end), x, batch_size=2))
    for other in found[1:]:
        assert [p.prediction for p in other] == [p.prediction for p in found[0]]
        confidences = [[p.confidence for p in part] for part in (other, found[0])]
        np.testing.assert_allclose(*confidences, rtol=1e-5)
    logits = Ends(lambda y: torch.tensor([[1.5, -0.5]]).expand(len(y), 2))  # their sum is 1, too
    confidence = deploy.predict.predict(logits, x)[0].confidence
    assert confidence == pytest.approx(1 / (1 + np.exp(-2)))
    with pytest.raises(ConfigurationError, match="does not fit"):
        deploy.predict.predict(Ends(lambda y: y), x[:, :3])
    assert deploy.predict.predict(Ends(lambda y: y[:, 0]), x)[0].prediction is None


class Several(nn.Module):
    """Takes pairs of pictures in a dict, features, tokens, and one table for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 8), nn.Embedding(9, 8)
        self.c = QuantLinear(8, 3, weight_quantizer="sign", input_quantizer="sign")

    def forward(self, batch, extra, tokens=None, table=None, *, turned: bool = False):
        y = self.a(batch["left"].flatten(1)) - self.a(batch["right"].flatten(1))
        y = y + self.b(tokens).sum(1) + extra[0] * extra[1]
        return self.c(y @ table), y


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Its file, and samples for it."""
    torch.manual_seed(0)
    pictures = {"left": torch.rand(5, 1, 4, 4), "right": torch.rand(5, 1, 4, 4)}
    given = {"batch": pictures, "extra": [torch.randn(5, 8), torch.randn(5, 8)],
             "tokens": torch.randint(9, (5, 4)), "table": torch.eye(8)}  # fmt: skip
    net = Several().eval()
    info = {"preprocessing": {"range": [0, 1], "mean": [0.5]}, "classes": ["a", "b", "c"]}
    path = tmp_path_factory.mktemp("several") / "net.safetensors"
    deploy.save(deploy.pack(net, given, info=info), path)
    return net, path, given


def test_several_inputs_by_name(several, tmp_path) -> None:
    net, path, given = several
    pixels_ = {key: (x * 255).round().byte() for key, x in given["batch"].items()}
    ready = {key: x / 255 - 0.5 for key, x in pixels_.items()}
    with torch.no_grad():
        wanted = net(**{**given, "batch": ready})[0]
    flat = {"left": pixels_["left"], "batch.right": pixels_["right"], "extra.0": given["extra"][0],
            "extra.1": given["extra"][1], "tokens": given["tokens"], "table": given["table"],
            "labels": torch.zeros(5)}  # fmt: skip
    network = deploy.load(path)
    np.savez(tmp_path / "x.npz", **{key: x.numpy() for key, x in flat.items()})
    pictures = [Image.fromarray(x[0].numpy()) for x in pixels_["left"]]
    for source in (flat, tmp_path / "x.npz", {**flat, "left": pictures}):
        found = network.predict(source, batch_size=2)
        outputs = torch.stack([p.outputs for p in found])
        torch.testing.assert_close(outputs, wanted, rtol=1e-4, atol=1e-4)
        assert [p.prediction for p in found] == ["abc"[i] for i in wanted.argmax(1)]
    floats = {f"batch.{key}": x for key, x in given["batch"].items()}
    plain = network.predict({**flat, **floats}, normalize=False)
    torch.testing.assert_close(plain[4].outputs, net(**given)[0][4], rtol=1e-4, atol=1e-4)
    out = tmp_path / "out.csv"
    assert main([f"model={path}", f"input={tmp_path / 'x.npz'}", f"out={out}", "threads=1"]) == 0
    lines = out.read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["abc"[i] for i in wanted.argmax(1)]


def test_several_inputs_that_are_wrong_are_named(several, tmp_path) -> None:
    _, path, given = several
    network = deploy.load(path)
    flat = {**given["batch"], "extra.0": given["extra"][0], "extra.1": given["extra"][1].clone(),
            "tokens": given["tokens"], "table": given["table"]}  # fmt: skip
    flat["extra.1"][3] = torch.nan
    with pytest.raises(ConfigurationError, match=r"3: extra\.1: .*not finite"):
        network.predict(flat, batch_size=2)
    with pytest.warns(UserWarning, match="skipped 3"):
        found = network.predict(flat, batch_size=2, on_error="skip")
    assert [p.sample for p in found] == ["0", "1", "2", "4"]
    flat["extra.1"] = given["extra"][1]
    wanted = network(**given)[0][4]
    for changed, words in {
        "takes 6 inputs .batch.left, batch.right, extra.0, extra.1, tokens, table.;": flat["left"],
        "tokens missing": {key: x for key, x in flat.items() if key != "tokens"},
        "'tokens': 4": {**flat, "tokens": flat["tokens"][:4]},
        "cannot be (computed|used)": {**flat, "left": torch.rand(5, 1, 4, 5)},
        "whole numbers": {**flat, "tokens": flat["tokens"] + 0.5},
        "input 'right': images=list": {**flat, "right": [1]},
    }.items():
        with pytest.raises(ConfigurationError, match=changed):
            network.predict(words, normalize=False)
    np.save(tmp_path / "x.npy", flat["left"].numpy())
    with pytest.raises(ConfigurationError, match="npz file of arrays with these names"):
        network.predict(tmp_path / "x.npy")
    assert torch.equal(network.predict(flat, normalize=False)[4].outputs, wanted)


def test_an_archive_has_the_array_by_the_arguments_name(tmp_path) -> None:
    class Named(nn.Sequential):
        def forward(self, features):
            return super().forward(features)

    x = torch.randn(4, 8)
    sign = QuantLinear(8, 3, weight_quantizer="sign", input_quantizer="sign")
    packed = deploy.pack(Named(sign).eval(), x)
    np.savez(tmp_path / "x.npz", data=np.zeros((2, 8)), features=x.numpy())
    assert len(packed.predict(tmp_path / "x.npz")) == len(packed.predict({"features": x})) == 4
    with pytest.raises(ConfigurationError, match="before its first call"):
        deploy.pack(Named(sign).eval()).predict({"features": x})


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    """A small trained network for digits, from its file, with what its data say of themselves."""
    torch.manual_seed(0)
    data = Digits()
    data.setup()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64),
                        QuantLinear(64, 64, weight_quantizer="sign", input_quantizer="sign"),
                        nn.BatchNorm1d(64), nn.Linear(64, 10))  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(6):
        for x, y in data.train_dataloader():
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    samples = next(iter(data.test_dataloader()))[0]
    path = tmp_path_factory.mktemp("digits") / "net.safetensors"
    deploy.save(deploy.pack(net.eval(), info=model_info(data, samples)), path)
    return deploy.load(path)


@pytest.mark.parametrize(
    ("side", "mode"), [(8, "L"), (28, "RGB"), (64, "RGBA"), (200, "I;16"), (33, "P")]
)
def test_an_ordinary_picture_of_a_digit_is_recognized(recognizer, side, mode, tmp_path) -> None:
    digits = load_digits()
    for index in range(100):
        bytes_ = np.round(digits.images[index] * 255 / 16).astype(np.uint8)
        smooth = Image.Resampling.BICUBIC if side % 8 else Image.Resampling.NEAREST
        picture = Image.fromarray(bytes_).resize((side, side), smooth)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        else:
            picture = picture.convert(mode)
        picture.save(tmp_path / f"{index:03d}.png")
    found = recognizer.predict(tmp_path)
    right = sum(p.prediction == str(t) for p, t in zip(found, digits.target[:100], strict=True))
    assert [p.sample for p in found[:2]] == ["000.png", "001.png"]
    assert right >= (85 if side % 8 else 95)


def test_from_python_pictures_paths_and_arrays_say_the_same(recognizer, tmp_path) -> None:
    bytes_ = np.round(load_digits().images[:4] * 255 / 16).astype(np.uint8)
    pictures = [Image.fromarray(array) for array in bytes_]
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / f"{index}.png")
    paths = sorted(tmp_path.iterdir())
    large = np.stack([np.asarray(p.resize((16, 16), Image.Resampling.NEAREST)) for p in pictures])
    wanted = [p.prediction for p in recognizer.predict(tmp_path)]
    for images in (
        *(pictures, paths, bytes_, bytes_[..., None], list(bytes_), large),
        *(torch.tensor(bytes_), pictures * 1, load_digits().images[:4]),
    ):
        assert [p.prediction for p in recognizer.predict(images, batch_size=3)] == wanted
    assert recognizer.predict(pictures[0])[0].prediction == wanted[0]
    assert 0.1 <= recognizer.predict(pictures[0])[0].confidence <= 1
    (tmp_path / "broken.png").write_text("")
    with pytest.raises(ConfigurationError, match=r"broken\.png"):
        recognizer.predict(tmp_path)
    with pytest.warns(UserWarning, match=r"broken\.png"):
        assert len(recognizer.predict(tmp_path, on_error="skip")) == 4
    for wrong in ([], "text", object(), [np.zeros(3), np.zeros(4)]):
        with pytest.raises(ConfigurationError):
            recognizer.predict(wrong)


def test_what_data_modules_say_of_their_samples() -> None:
    class Data:
        mean, std, classes = torch.tensor([0.5]), torch.tensor([0.25]), 3

        def test_dataloader(self):
            return []

    info = model_info(Data(), torch.zeros(2, 1, 4, 4))
    assert info["preprocessing"] == {"mean": [0.5], "std": [0.25]}
    assert info["classes"] == ["0", "1", "2"]
    Data.class_names = ("x", "y", "z")
    assert model_info(Data(), torch.zeros(2, 1, 4, 4))["classes"] == ["x", "y", "z"]
    with pytest.raises(ConfigurationError, match="classes"):
        model_info(Data(), torch.zeros(2, 1, 4, 4), ["a"])
    named = model_info(Data(), torch.zeros(2, 1, 4, 4), list("abc"), {"range": [0, 1]})
    assert named["classes"] == ["a", "b", "c"]
    assert named["preprocessing"]["range"] == [0, 1]
    assert model_info(Data(), torch.zeros(2, 5).long())["input_dtype"] == "int64"


def test_pictures_in_folders_are_read_as_in_training(tmp_path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(8):
                array = RNG.integers(0, 256, (9, 14, 4), dtype=np.uint8)
                Image.fromarray(array).save(folder / f"{index}.png")
    data = ImageFolder(tmp_path, [6, 8], batch_size=2, validation=0.25)
    data.setup()
    trained = next(iter(data.test_dataloader()))[0]
    info = model_info(data, trained)
    samples = open_samples(str(tmp_path / "test"), Preprocessing.of(info))
    assert torch.allclose(next(samples.batches(64)).x, trained, atol=1e-5)
    assert info["classes"] == ["cat", "dog"]
