"""Architectures of packed files with values replaced or steps added; the checksum is right."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.bundle import unbundled
from ste_lightning.deploy.file.save import checksum
from ste_lightning.deploy.graph.operators import ATEN, SIZES, resolved

OPERATORS = sorted([*SIZES, *ATEN])
STRANGE = [
    *(None, True, -1, 0, 1, 3, 255, 1 << 20, 1 << 31, 1 << 40, 1 << 64, 0.5, 1e300),
    *("", "x", "sign", "conv", "layer 0", [], {}, [[]], {"ref": "x"}, {"float": "nan"}),
]


class Graphs:
    """Some values replaced."""

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
    """Further steps, whose arguments fit the operators' schemas."""

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
