"""The inputs of fuzz_readers.py: every reader, its sound files, and what damages them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_graphs import Graphs, MadeGraphs
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.data.formats import read_cifar, read_idx
from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.deploy.predict.samples import open_samples
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.running.failures import readable
from ste_lightning.running.hydra_plugins import RecipeSource
from ste_lightning.running.schema import Schema
from ste_lightning.running.settings import completed
from ste_lightning.theory.studies import store

EXTREME = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]
RECIPE = b"""# Title.
defaults:
  - /data: digits
  - override /quantizer: sign
seed: 3
report: [test/accuracy, "seconds"]
expected: {test/accuracy: [0.9, 1]}
trainer: &same
  max_epochs: 20
  devices: ${oc.env:N,1}
summary:
  <<: *same
  text: |
    \xc3\xa4 b
"""


def damaged(rng: random.Random, sound: bytes) -> bytes:
    data = bytearray(sound)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data)) if data else 0
        end = min(len(data), at + rng.choice([1, 2, 4, 8, 64, 1024]))
        match rng.randrange(8):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 16))
            case 5:
                width = rng.choice([2, 4, 8])
                value = rng.choice(EXTREME) & ((1 << 8 * width) - 1)
                data[at : at + width] = value.to_bytes(width, rng.choice(["little", "big"]))
            case 6:
                found = list(re.finditer(rb"\d+", bytes(data)))
                if found:
                    number = rng.choice(found)
                    value = str(rng.choice([*EXTREME, -1, 10**30])).encode()
                    data[number.start() : number.end()] = value
            case 7 if rng.random() < 0.2:
                del data[at:]
    return bytes(data)


@dataclass
class Reader:
    """What is read, by whom, and what damages it."""

    name: str
    suffix: str
    sound: list[bytes]
    read: Callable[[Path], Any]
    damage: Callable[[random.Random, bytes], bytes] = damaged

    def input(self, index: int) -> bytes:
        """Return an input, which follows from its number alone."""
        chance = random.Random(f"{self.name} {index}")
        return self.damage(chance, chance.choice(self.sound))


class Runs:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    lsq = {"map": "lsq", "bits": 4}
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(16, 3))
    quantize_(net, [{"match": name, "weight": lsq, "input": lsq} for name in "024"])
    net(torch.randn(4, 1, 6, 6))
    return net.eval()


def small_network() -> nn.Sequential:
    """Return one that loads in half the time: what matters is which steps are added."""
    torch.manual_seed(0)
    lsq = {"map": "lsq", "bits": 4}
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Flatten(), nn.Linear(8, 3))
    quantize_(net, [{"match": "2", "weight": lsq, "input": lsq}])
    net(torch.randn(4, 1, 6, 6))
    return net.eval()


def written(save: Callable[[Path], Any], folder: Path, suffix: str) -> bytes:
    path = folder / f"sound{suffix}"
    save(path)
    return path.read_bytes()


def opened(shape: tuple[int, int, int]) -> Callable[[Path], Any]:
    """Return a reader that opens samples as predict does, and reads them all."""
    preprocessing = Preprocessing(shape=shape, channels="grey", range=(0.0, 1.0))

    def read(path: Path) -> None:
        for batch in open_samples(str(path), preprocessing).batches(64):
            if batch.failed and not batch.names:  # predict skips single samples, and says why
                raise ConfigurationError(batch.failed[0][1])

    return read


def recipe(path: Path) -> None:
    """Read a recipe as the command lines do, before groups come in and references are replaced."""
    try:
        source = RecipeSource("fuzz", f"recipes://{path.parent}")
        content = source.load_config(f"recipe/{path.stem}").config
        config = OmegaConf.merge(OmegaConf.structured(Schema), {"name": "fuzz"}, content)
        completed({key: None for key in config if key not in ("defaults", "hydra")}, Schema)
    except Exception as error:
        said = readable(error)
        if said is None:
            raise
        raise ConfigurationError(said) from None


def answered(path: Path) -> None:
    """Load a packed file and run it on its own sample, if it loads."""
    network = deploy.load(path)
    with torch.no_grad():
        network(torch.zeros(2, 1, 6, 6))


def readers(folder: Path) -> Iterator[Reader]:
    """Yield every reader with its sound files."""
    marker = folder / "code ran"
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7
    head = b"\0\0\x08\x03" + struct.pack(">3I", 2, 6, 6)
    idx = [head + pixels.tobytes() * 2, gzip.compress(head + pixels.tobytes() * 2)]
    yield Reader("idx", ".idx", idx, lambda path: read_idx(path, 3))
    row = bytes(range(256)) * 12
    yield Reader("cifar, binary", ".bin", [(b"\3" + row) * 2], lambda path: read_cifar(path, 10))
    batch = {"data": np.frombuffer(row, np.uint8).reshape(1, -1), "labels": [3]}
    pickled = [pickle.dumps(batch, protocol=2), pickle.dumps(Runs(marker))]
    yield Reader("cifar, pickled", "", pickled, lambda path: read_cifar(path, 10))
    yield from arrays(folder, marker)
    for kind in ("webp", "tiff", "bmp", "jpeg", "png", "gif"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        yield Reader(kind, f".{kind}", [buffer.getvalue()], opened((1, 6, 6)))
    yield Reader("recipe", ".yaml", [RECIPE], recipe)
    content = {"state_dict": {"w": torch.ones(3)}, "epoch": 3, "callbacks": {"a": {"b": [1, "c"]}}}
    sound = written(lambda p: torch.save(content, p), folder, ".ckpt")
    evil = written(lambda p: torch.save({"state_dict": Runs(marker)}, p), folder, ".ckpt")
    checkpoints = [sound, evil, pickle.dumps(Runs(marker))]
    yield Reader("checkpoint", ".ckpt", checkpoints, read_checkpoint)
    columns = {"n": [8, 16], "rate": [0.5, 0.25], "rule": ["relu", "clipped"]}
    table = written(lambda p: store.write(p, columns, {"seed": 1}), folder, ".parquet")
    yield Reader("study table", ".parquet", [table], store.read)
    packed = written(lambda p: deploy.save(deploy.pack(network()), p), folder, ".safetensors")
    yield Reader("packed file", ".safetensors", [packed], deploy.load)
    yield Reader("packed graph", ".safetensors", [packed], answered, Graphs(folder, packed))
    small = written(lambda p: deploy.save(deploy.pack(small_network()), p), folder, ".safetensors")
    yield Reader("made graph", ".safetensors", [small], answered, MadeGraphs(folder, small))


def arrays(folder: Path, marker: Path) -> Iterator[Reader]:
    x = np.random.default_rng(0).random((3, 1, 2, 2), dtype=np.float32)
    read = opened((1, 2, 2))
    objects = np.array([Runs(marker)], dtype=object)
    files = [written(lambda p: np.save(p, x), folder, ".npy")]
    files.append(written(lambda p: np.save(p, objects, allow_pickle=True), folder, ".npy"))
    yield Reader("npy", ".npy", files, read)
    archives = [written(lambda p: np.savez(p, x=x), folder, ".npz")]
    archives.append(written(lambda p: np.savez_compressed(p, x=x), folder, ".npz"))
    archives.append(written(lambda p: np.savez(p, x=objects), folder, ".npz"))
    yield Reader("npz", ".npz", archives, read)
    text = written(lambda p: np.savetxt(p, x.reshape(3, -1), "%.3g", ","), folder, ".csv")
    yield Reader("csv", ".csv", [text], read)
