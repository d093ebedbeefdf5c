"""Damaged files for every reader: loaded or refused by name, quickly, in little memory.

    python benchmarks/fuzz_readers.py [--inputs 100000] [--only NAME] [--seconds N]

Each input is a sound file with one to eight changes: bits and bytes, runs cut out, doubled or
moved, integers and decimal numbers replaced by extreme ones; or a file that would run code if it
were unpickled. Counted as faults: any error but ConfigurationError, more than 10 s, more than
512 MiB, code that ran, and messages that advise to unpickle. The outcome is written to
benchmarks/results/fuzz_readers.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.deploy.predict.samples import open_samples
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.theory.studies import store

SECONDS, MEMORY = 10, 512 << 20
RESULTS = Path(__file__).parent / "results" / "fuzz_readers.json"
ADVICE = re.compile(r"weights_only\W+(to )?False|allow_pickle\W*True", re.IGNORECASE)
EXTREME = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]


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


def written(save: Callable[[Path], Any], folder: Path, suffix: str) -> bytes:
    path = folder / f"sound{suffix}"
    save(path)
    return path.read_bytes()


def opened(path: Path) -> None:
    """Open samples as predict does, and read them all."""
    preprocessing = Preprocessing(shape=(1, 6, 6), channels="grey", range=(0.0, 1.0))
    samples = open_samples(str(path), preprocessing)
    for _ in samples.batches(64):
        pass


def readers(folder: Path) -> Iterator[tuple[str, str, list[bytes], Callable[[Path], Any]]]:
    """Yield name, suffix, sound files and reader."""
    marker = folder / "code ran"
    net = network()
    x = np.random.default_rng(0).random((5, 1, 6, 6), dtype=np.float32)
    packed = written(lambda p: deploy.save(deploy.pack(net), p), folder, ".safetensors")
    yield "packed file", ".safetensors", [packed], deploy.load
    content = {"state_dict": net.state_dict(), "epoch": 3, "callbacks": {"a": {"b": [1, "c"]}}}
    sound = written(lambda p: torch.save(content, p), folder, ".ckpt")
    evil = written(lambda p: torch.save({"state_dict": Runs(marker)}, p), folder, ".ckpt")
    yield "checkpoint", ".ckpt", [sound, evil, pickle.dumps(Runs(marker))], read_checkpoint
    columns = {"n": [8, 16], "rate": [0.5, 0.25], "rule": ["relu", "clipped"]}
    table = written(lambda p: store.write(p, columns, {"seed": 1}), folder, ".parquet")
    yield "study table", ".parquet", [table], store.read
    objects = np.array([Runs(marker)], dtype=object)
    arrays = [written(lambda p: np.save(p, x), folder, ".npy")]
    arrays.append(written(lambda p: np.save(p, objects, allow_pickle=True), folder, ".npy"))
    yield "npy", ".npy", arrays, opened
    archives = [written(lambda p: np.savez(p, x=x), folder, ".npz")]
    archives.append(written(lambda p: np.savez_compressed(p, x=x), folder, ".npz"))
    archives.append(written(lambda p: np.savez(p, x=objects), folder, ".npz"))
    yield "npz", ".npz", archives, opened
    text = written(lambda p: np.savetxt(p, x.reshape(5, -1), delimiter=","), folder, ".csv")
    yield "csv", ".csv", [text], opened
    from PIL import Image

    picture = Image.fromarray((x[0, 0] * 255).astype(np.uint8))
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        yield kind, f".{kind}", [buffer.getvalue()], opened


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


def attempt(read: Callable[[Path], Any], path: Path) -> str:
    """Return what became of a file."""
    signal.alarm(SECONDS)
    try:
        read(path)
    except ConfigurationError as error:
        return "fault: advises to unpickle" if ADVICE.search(str(error)) else "refused"
    except (Exception, MemoryError) as error:
        return f"fault: {type(error).__name__}: {str(error)[:120]}"
    finally:
        signal.alarm(0)
    return "loaded"


def hang(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--only", default=None)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, per reader")
    asked = parser.parse_args()
    signal.signal(signal.SIGALRM, hang)
    warnings.simplefilter("ignore")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    faults = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for reader, suffix, sound, read in readers(folder):
            if asked.only is not None and reader != asked.only:
                continue
            rng, path = random.Random(0), folder / f"a{suffix}"
            for file in sound:
                path.write_bytes(file)
                attempt(read, path)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            began, outcomes = time.perf_counter(), Counter[str]()
            slowest = 0.0
            for _ in range(asked.inputs):
                path.write_bytes(damaged(rng, rng.choice(sound)))
                start = time.perf_counter()
                outcomes[attempt(read, path)] += 1
                slowest = max(slowest, time.perf_counter() - start)
                if start - began > asked.seconds:
                    break
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
            if grown > MEMORY:
                outcomes["fault: memory"] += 1
            if (folder / "code ran").exists():
                outcomes["fault: code ran"] += 1
            wrong = {key: n for key, n in outcomes.items() if key.startswith("fault")}
            faults += sum(wrong.values())
            found[reader] = {
                "inputs": sum(n for key, n in outcomes.items() if key != "fault: memory"),
                "loaded": outcomes["loaded"],
                "refused": outcomes["refused"],
                "faults": wrong,
                "slowest, s": round(slowest, 3),
                "memory, MiB": grown >> 20,
            }
            print(reader, json.dumps(found[reader]), flush=True)
            RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
