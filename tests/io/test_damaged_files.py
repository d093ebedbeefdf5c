"""Files that hold code or are damaged are refused by name, and nothing advises to unpickle them."""

import os
import pickle
import random

import numpy as np
import pytest
import torch

from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.deploy.predict.samples import open_samples
from ste_lightning.errors import ConfigurationError
from ste_lightning.io import pictures
from ste_lightning.io.checkpoint import read_checkpoint


class Runs:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def opened(path):
    return open_samples(str(path), Preprocessing(shape=(2,)))


def refusal(read, path):
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message
    assert "weights_only" not in message
    assert "pickle" not in message
    return message


def test_code_in_files_does_not_run(tmp_path):
    marker = tmp_path / "code ran"
    objects = np.array([Runs(marker)], dtype=object)
    torch.save({"state_dict": Runs(marker)}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Runs(marker)))
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=objects)
    for name in ("a.ckpt", "b.ckpt"):
        assert "could run code" in refusal(read_checkpoint, tmp_path / name)
    for name in ("a.npy", "a.npz"):
        assert "Python objects" in refusal(opened, tmp_path / name)
    assert not marker.exists()


def test_checkpoints(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, path)
    content = read_checkpoint(path)
    assert content["epoch"] == 3
    assert torch.equal(content["state_dict"]["w"], torch.ones(2))
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in refusal(read_checkpoint, path)
    torch.save([1], path)
    assert "holds a list" in refusal(read_checkpoint, path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_damaged_arrays_are_read_or_refused(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    x = np.arange(8.0).reshape(4, 2)
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, x=x)
    else:
        np.savetxt(path, x, delimiter=",")
    assert len(opened(path)) == 4
    sound, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        changed = bytearray(sound)
        for _ in range(4):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            opened(path)
        except ConfigurationError:
            refused += 1
    assert refused > 10


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path):
    path = tmp_path / "huge.pgm"
    path.write_bytes(b"P5 9000 9000 255\n")
    with pytest.raises(ConfigurationError, match="9000 x 9000 pixels"):
        pictures.opened(path, lambda image: pytest.fail("decoded"))
