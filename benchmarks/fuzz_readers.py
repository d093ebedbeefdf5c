"""Damaged files for every reader: loaded or refused by name, quickly, in little memory.

    make fuzz          or    python benchmarks/fuzz_readers.py [--inputs 100000] [--only NAME]

Each input is a sound file with one to eight changes: bits and bytes, runs cut out, doubled or
moved, integers and decimal numbers replaced by extreme ones; or a file that would run code if it
were unpickled. Of ``packed graph`` it is the architecture, as JSON, of which one to three values
are replaced (layers, steps, arguments, types, sizes), with the checksum made right again; of
``made graph`` one to five steps are added, of any operator that graphs may name, with arguments of
the kinds that its schema asks for. What loads must also answer to its own sample. Counted as
faults: any error but ConfigurationError, more than 10 s of work, more than 512 MiB, code that ran,
messages that advise to unpickle, and what ends the process: inputs are tried in another one, which
is begun anew. Each input follows from its number alone: a run that was stopped goes on where it was
(``--again`` begins anew). Counts are in benchmarks/results/fuzz_readers.json.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.data.formats import read_cifar, read_idx
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.file.save import checksum
from ste_lightning.deploy.graph.operators import ATEN, SIZES, resolved
from ste_lightning.deploy.predict.preprocessing import Preprocessing
from ste_lightning.deploy.predict.samples import open_samples
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.running.failures import readable
from ste_lightning.running.hydra_plugins import RecipeSource
from ste_lightning.running.schema import Schema
from ste_lightning.running.settings import known_keys
from ste_lightning.theory.studies import store

SECONDS, MEMORY, ROOM = 10, 512 << 20, 6 << 30  # of work; bytes used; bytes of address space
OPERATORS = sorted([*SIZES, *ATEN])
RESULTS = Path(__file__).parent / "results" / "fuzz_readers.json"
ADVICE = re.compile(r"weights_only\W+(to )?False|allow_pickle\W*True", re.IGNORECASE)
STRANGE = [
    *(None, True, -1, 0, 1, 3, 255, 1 << 20, 1 << 31, 1 << 40, 1 << 64, 0.5, 1e300),
    *("", "x", "sign", "conv", "layer 0", [], {}, [[]], {"ref": "x"}, {"float": "nan"}),
]
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
Row = dict[str, Any]
NOTHING: Row = {
    **dict.fromkeys(("inputs", "loaded", "refused", "faults"), 0),
    **{"first of each fault": {}, "slowest, s": 0.0},
}
Damage = Callable[[random.Random, bytes], bytes]


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
        known_keys({key: None for key in config if key not in ("defaults", "hydra")}, Schema)
    except Exception as error:
        said = readable(error)
        if said is None:
            raise
        raise ConfigurationError(said) from None


def readers(folder: Path) -> Iterator[tuple[str, str, list[bytes], Damage, Callable[[Path], Any]]]:
    """Yield name, suffix, sound files, what damages them, and reader."""
    marker = folder / "code ran"
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7
    head = b"\0\0\x08\x03" + struct.pack(">3I", 2, 6, 6)
    idx = [head + pixels.tobytes() * 2, gzip.compress(head + pixels.tobytes() * 2)]
    yield "idx", ".idx", idx, damaged, lambda path: read_idx(path, 3)
    row = bytes(range(256)) * 12
    yield "cifar, binary", ".bin", [(b"\3" + row) * 2], damaged, lambda path: read_cifar(path, 10)
    batch = {"data": np.frombuffer(row, np.uint8).reshape(1, -1), "labels": [3]}
    pickled = [pickle.dumps(batch, protocol=2), pickle.dumps(Runs(marker))]
    yield "cifar, pickled", "", pickled, damaged, lambda path: read_cifar(path, 10)
    yield from arrays(folder, marker)
    for kind in ("webp", "tiff", "bmp", "jpeg", "png", "gif"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        yield kind, f".{kind}", [buffer.getvalue()], damaged, opened((1, 6, 6))
    yield "recipe", ".yaml", [RECIPE], damaged, recipe
    content = {"state_dict": {"w": torch.ones(3)}, "epoch": 3, "callbacks": {"a": {"b": [1, "c"]}}}
    sound = written(lambda p: torch.save(content, p), folder, ".ckpt")
    evil = written(lambda p: torch.save({"state_dict": Runs(marker)}, p), folder, ".ckpt")
    checkpoints = [sound, evil, pickle.dumps(Runs(marker))]
    yield "checkpoint", ".ckpt", checkpoints, damaged, read_checkpoint
    columns = {"n": [8, 16], "rate": [0.5, 0.25], "rule": ["relu", "clipped"]}
    table = written(lambda p: store.write(p, columns, {"seed": 1}), folder, ".parquet")
    yield "study table", ".parquet", [table], damaged, store.read
    packed = written(lambda p: deploy.save(deploy.pack(network()), p), folder, ".safetensors")
    yield "packed file", ".safetensors", [packed], damaged, deploy.load
    yield "packed graph", ".safetensors", [packed], Graphs(folder, packed), answered
    yield "made graph", ".safetensors", [packed], MadeGraphs(folder, packed), answered


def arrays(
    folder: Path, marker: Path
) -> Iterator[tuple[str, str, list[bytes], Damage, Callable[[Path], Any]]]:
    x = np.random.default_rng(0).random((3, 1, 2, 2), dtype=np.float32)
    read = opened((1, 2, 2))
    objects = np.array([Runs(marker)], dtype=object)
    files = [written(lambda p: np.save(p, x), folder, ".npy")]
    files.append(written(lambda p: np.save(p, objects, allow_pickle=True), folder, ".npy"))
    yield "npy", ".npy", files, damaged, read
    archives = [written(lambda p: np.savez(p, x=x), folder, ".npz")]
    archives.append(written(lambda p: np.savez_compressed(p, x=x), folder, ".npz"))
    archives.append(written(lambda p: np.savez(p, x=objects), folder, ".npz"))
    yield "npz", ".npz", archives, damaged, read
    text = written(lambda p: np.savetxt(p, x.reshape(3, -1), "%.3g", ","), folder, ".csv")
    yield "csv", ".csv", [text], damaged, read


class Graphs:
    """Architectures with some values replaced; the checksum is right."""

    def __init__(self, folder: Path, packed: bytes) -> None:
        path = folder / "graph.safetensors"
        path.write_bytes(packed)
        self.tensors, self.metadata = unbundled(*tensor_file.read(path))
        self.text = self.metadata["network"]
        self.places = list(places(json.loads(self.text)))[1:]
        self.values = [at(json.loads(self.text), way) for way in self.places]
        self.folder = folder

    def __call__(self, rng: random.Random, sound: bytes) -> bytes:
        spec = json.loads(self.text)
        self.change(rng, spec)
        text = json.dumps(spec)
        metadata = {**self.metadata, "network": text, "sha256": checksum(self.tensors, text)}
        path = self.folder / "graph.safetensors"
        tensor_file.write(path, self.tensors, metadata)
        return path.read_bytes()

    def change(self, rng: random.Random, spec: dict[str, Any]) -> None:
        for _ in range(rng.randint(1, 3)):
            *way, last = rng.choice(self.places)
            try:
                inside = at(spec, way)
                inside[last] = self.other(rng, inside[last])
            except (KeyError, IndexError, TypeError):  # an earlier change has removed the place
                continue

    def other(self, rng: random.Random, value: Any) -> Any:
        """Return another value: strange, a little different, or one from elsewhere in the file."""
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice(STRANGE)
        if kind == 1 and type(value) in (int, float):
            return value + rng.choice([-1, 1, 2, 0.5])
        if kind == 2 and isinstance(value, list):
            return rng.choice([value[1:], value[::-1], value + value[:1], [value]])
        if kind == 3 and isinstance(value, dict) and value:
            left = rng.choice(sorted(value))
            return {key: part for key, part in value.items() if key != left}
        return copy.deepcopy(rng.choice(self.values))


class MadeGraphs(Graphs):
    """Architectures with further steps, whose arguments fit the operators' schemas."""

    NUMBERS = (0, 1, 2, 3, -1, -2, 4, 6, 16, 255, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)

    def change(self, rng: random.Random, spec: dict[str, Any]) -> None:
        steps = spec["steps"]
        known = ["input0", *(step[0] for step in steps), *spec["constants"]]
        for index in range(rng.randint(1, 5)):
            name = rng.choice(OPERATORS)
            call = resolved(name)
            given = [rng.choice([1, 2, {"ref": rng.choice(known)}]) for _ in range(2)]
            schema = getattr(call, "_schema", None)
            if schema is not None:
                asked = [a for a in schema.arguments if not a.kwarg_only]
                while asked and asked[-1].has_default_value() and rng.random() < 0.5:
                    asked.pop()
                given = [self.argument(rng, str(a.type), known) for a in asked]
            steps.append([f"made{index}", name, given])
            known += [f"made{index}"] * 3
        spec["output"] = {"ref": known[-1]}

    def argument(self, rng: random.Random, kind: str, known: list[str]) -> Any:
        """Return an argument of a schema's type."""
        match kind:
            case "Tensor":
                return {"ref": rng.choice(known)}
            case "bool":
                return rng.random() < 0.5
            case "int" | "SymInt" | "number":
                return rng.choice(self.NUMBERS[: rng.choice([4, 9, 14])])
            case "float":
                return rng.choice([0.0, 0.5, 1.0, -1.0, 1e-5, 1e300, {"float": "nan"}])
            case "str":
                return rng.choice(["mean", "bilinear", "ij", "zeros", "same", "ij,jk->ik", "x"])
        if kind.startswith("Optional["):
            inside = kind.removeprefix("Optional[").removesuffix("]")
            return None if rng.random() < 0.5 else self.argument(rng, inside, known)
        if kind.startswith("List["):
            inside = kind.removeprefix("List[").removesuffix("]")
            return [self.argument(rng, inside, known) for _ in range(rng.choice([1, 2, 2, 4]))]
        return rng.choice(STRANGE)


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*way, key))


def answered(path: Path) -> None:
    """Load a packed file and run it on its own sample, if it loads."""
    network = deploy.load(path)
    with torch.no_grad():
        network(torch.zeros(2, 1, 6, 6))


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
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of work: other processes are no fault
    try:
        read(path)
    except ConfigurationError as error:
        said = str(error)
        if "allocate memory" in said or "bad_alloc" in said:
            return f"fault: memory: {said[:120]}"
        return "fault: advises to unpickle" if ADVICE.search(said) else "refused"
    except (Exception, MemoryError) as error:
        return f"fault: {type(error).__name__}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "loaded"


def hang(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s of work")


@dataclass
class Reader:
    """What is damaged, how, and who reads it."""

    name: str
    suffix: str
    sound: list[bytes]
    damage: Damage
    read: Callable[[Path], Any]

    def attempts(self, folder: Path, first: int, last: int, seconds: float) -> Iterator[str]:
        """Yield what became of each input, and at last how much memory they took, in MiB."""
        path = folder / f"a{self.suffix}"
        for file in self.sound:
            path.write_bytes(file)
            attempt(self.read, path)
        used = memory()
        limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        began = time.process_time()
        for index in range(first, last):
            chance = random.Random(f"{self.name} {index}")
            path.write_bytes(self.damage(chance, chance.choice(self.sound)))
            start = time.process_time()
            if start - began > seconds:
                return
            outcome = attempt(self.read, path)
            if index % 100 == 99 or index + 1 == last:  # to ask takes milliseconds
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                if peak - limit > MEMORY >> 10:
                    outcome = f"fault: one of the last 100 takes {(peak - limit) >> 10} MiB"
                    limit = peak
            if (folder / "code ran").exists():
                outcome = "fault: code ran"
            yield f"{time.process_time() - start:.3f} {outcome}"

    def outcomes(
        self, folder: Path, done: int, inputs: int, seconds: float
    ) -> Iterator[tuple[float, str]]:
        """Yield seconds and outcome of each input from ``done``, tried in a process of its own."""
        while done < inputs:
            answers, told = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(answers)
                with os.fdopen(told, "w", buffering=1) as output:
                    for line in self.attempts(folder, done, inputs, seconds):
                        output.write(line.replace("\n", " ") + "\n")
                os._exit(0)
            os.close(told)
            with os.fdopen(answers) as lines:
                for line in lines:
                    took, _, outcome = line.rstrip().partition(" ")
                    done += 1
                    yield float(took), outcome
            status = os.waitpid(child, 0)[1]
            if status == 0:
                return
            done += 1
            print(f"{self.name}: input {done - 1} ends the process", flush=True)
            yield 0.0, f"fault: ends the process by signal {os.WTERMSIG(status)}"


def memory() -> int:
    """Return this process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def tried(reader: Reader, folder: Path, row: Row, inputs: int, seconds: float) -> Iterator[Row]:
    """Go on with a reader's counts; yield them now and then, and at the end."""
    row = {**row, "first of each fault": dict(row["first of each fault"])}
    for took, outcome in reader.outcomes(folder, row["inputs"], inputs, seconds):
        kind, index = outcome.partition(":")[0], row["inputs"]
        row["inputs"] += 1
        row["faults" if kind == "fault" else kind] += 1
        row["slowest, s"] = max(row["slowest, s"], took)
        if kind == "fault":
            row["first of each fault"].setdefault(outcome, index)
        if row["inputs"] % 2000 == 0:
            yield row
    yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--only", default=None)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, per reader")
    asked = parser.parse_args()
    signal.signal(signal.SIGPROF, hang)
    warnings.simplefilter("ignore")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    faults = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for reader in (Reader(*row) for row in readers(folder)):
            if asked.only not in (None, reader.name):
                continue
            before = NOTHING if asked.again else found.get(reader.name, NOTHING)
            for row in tried(reader, folder, before, asked.inputs, asked.seconds):
                found[reader.name] = row
                RESULTS.write_text(json.dumps(found, indent=2) + "\n")
            faults += found[reader.name]["faults"]
            print(reader.name, json.dumps(found[reader.name]), flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
