"""What a C program computes: operations on results that are stored in a known way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import ConfigurationError

__all__ = ["Operation", "Program", "Stored", "c_float", "c_name", "refused"]

_TYPES = {"float32": "float", "uint32": "uint32_t", "uint8": "uint8_t", "int64": "threshold"}


def refused(what: str) -> ConfigurationError:
    """Return the error for something that has no C."""
    return ConfigurationError(
        f"format='c' has no {what}; leave it to a runtime that has (format='onnx'), or train "
        "without it."
    )


def c_name(text: str) -> str:
    """Return an identifier that looks like a name."""
    found = re.sub(r"\W", "_", text, flags=re.ASCII)
    return found if found[:1].isalpha() else f"n{found}"


def c_float(value: float) -> str:
    """Return a float32 in C, exactly."""
    number = np.float32(value)
    if not np.isfinite(number):
        return "NAN" if np.isnan(number) else "-INFINITY" if number < 0 else "INFINITY"
    return f"{number!s}f"


@dataclass(frozen=True)
class Stored:
    """How a result is stored.

    Attributes:
        kind: ``"floats"`` as torch stores them; ``"bits"``, a pixel's in 32-bit words; or
            ``"codes"``, a byte each, pixel by pixel.
        height, width, channels: of an image; rows are images of height 1, one pixel each.
    """

    kind: str
    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """How many pixels there are."""
        return self.height * self.width

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        each = {"floats": 4 * self.channels, "bits": 4 * -(-self.channels // 32)}
        return self.pixels * each.get(self.kind, self.channels)

    @property
    def c_type(self) -> str:
        """Its elements' type."""
        return {"floats": "float", "bits": "uint32_t"}.get(self.kind, "uint8_t")


@dataclass(frozen=True)
class Operation:
    """A C function and the call of it.

    Attributes:
        name: of the function; its arguments are the inputs, the result, and temporaries.
        comment: what it computes.
        inputs, result: names of results.
        temporaries: (type, bytes) of the memory that it needs meanwhile.
        code: its definition.
        arrays: names of the constant arrays that it brings.
        in_place: whether the result may take the place of the first input.
    """

    name: str
    comment: str
    inputs: tuple[str, ...]
    result: str
    temporaries: tuple[tuple[str, int], ...]
    code: str
    arrays: tuple[str, ...]
    in_place: bool


@dataclass
class Program:
    """Operations in order, with what they need.

    Attributes:
        stored: how each result is stored.
        aliases: results that are another one under another name.
        operations: in order.
        kernels: the kernels that they call.
        arrays: the constant arrays, in C.
        largest_threshold: of integer sums.
    """

    stored: dict[str, Stored] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)
    arrays: dict[str, str] = field(default_factory=dict)
    largest_threshold: int = 0
    _known: dict[tuple[str, bytes], str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _sizes: dict[str, tuple[str, int]] = field(default_factory=dict)
    _since: list[str] = field(default_factory=list)  # the arrays since the last operation

    def root(self, name: str) -> str:
        """Return under which name a result was made."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def unique(self, text: str) -> str:
        """Return a new identifier that looks like a name."""
        return self._reserved(f"layer_{c_name(text)}")

    def _reserved(self, base: str) -> str:
        found = base
        while found in self._names:
            found = f"{base}_{len(self._names)}"
        self._names.add(found)
        return found

    def array(self, name: str, values: NDArray[np.generic] | None) -> str:
        """Return the name of a constant array, ``NULL`` for none; equal ones are kept once.

        Args:
            name: what it looks like.
            values: its numbers.
        """
        if values is None:
            return "NULL"
        values = np.ascontiguousarray(values).ravel()
        key = (values.dtype.name, values.tobytes())
        if key not in self._known:
            kind = _TYPES[values.dtype.name]
            name = self._known[key] = self._reserved(name)
            self.arrays[name] = (
                f"static const {kind} {name}[{values.size}] = {{{_listed(values)}}};"
            )
            self._sizes[name] = (kind, values.size)
            self._since.append(name)
            if kind == "threshold":
                self.largest_threshold = max(self.largest_threshold, int(abs(values).max()))
        return self._known[key]

    def array_bytes(self, name: str) -> int:
        """Return the size of an array, once all thresholds are known."""
        kind, count = self._sizes[name]
        width = {"uint8_t": 1, "threshold": 2 if self.small_thresholds else 4}.get(kind, 4)
        return count * width

    @property
    def small_thresholds(self) -> bool:
        """Whether thresholds fit 16 bits."""
        return self.largest_threshold < 1 << 15

    @property
    def constants(self) -> int:
        """Bytes of all arrays."""
        return sum(map(self.array_bytes, self._sizes))

    def add(
        self,
        name: str,
        comment: str,
        inputs: Sequence[str],
        result: str,
        stored: Stored,
        body: str,
        kernels: Sequence[str] = (),
        temporaries: Sequence[tuple[str, str, int]] = (),
        in_place: bool = False,
    ) -> None:
        """Add an operation.

        Args:
            name: of its function, unique.
            comment, inputs, result, in_place: as of :class:`Operation`.
            stored: how the result is stored.
            body: C statements on ``x`` (``x0``, ``x1``, ... where inputs are several), ``y`` and
                the temporaries.
            kernels: that it calls.
            temporaries: (name, type, elements).
        """
        names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
        given = [
            f"const {self.stored[self.root(one)].c_type} *{at}"
            for at, one in zip(names, inputs, strict=True)
        ]
        given.append(f"{stored.c_type} *y")
        given += [f"{kind} *{at}" for at, kind, _ in temporaries]
        indented = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
        comment = comment.replace("*/", "").replace("/*", "")
        code = f"/* {comment} */\nstatic void {name}({', '.join(given)})\n{{\n{indented}\n}}\n"
        widths = {"int16_t": 2}
        needed = tuple((kind, n * widths.get(kind, 4)) for _, kind, n in temporaries)
        roots = tuple(map(self.root, inputs))
        own = tuple(self._since)
        self._since = []
        self.operations.append(Operation(name, comment, roots, result, needed, code, own, in_place))
        self.stored[result] = stored
        self.kernels.update(kernels)

    def alias(self, result: str, source: str, stored: Stored) -> None:
        """Let a result be another one, perhaps of another shape."""
        self.aliases[result] = source
        self.stored[result] = stored


def _listed(values: NDArray[np.generic]) -> str:
    """Return numbers in C, several a line."""
    kind = values.dtype.name
    if kind == "float32":
        texts = [c_float(float(v)) for v in values]
    elif kind == "uint32":
        texts = [f"0x{int(v):08x}u" for v in values]
    else:
        texts = [str(int(v)) for v in values]
    width = max(map(len, texts), default=1)
    each = max(90 // (width + 2), 1)
    lines = [", ".join(texts[i : i + each]) for i in range(0, len(texts), each)]
    return "\n    " + ",\n    ".join(lines) + "\n" if len(lines) > 1 else lines[0]
