"""Pickles of plain data, read without unpickling: a small machine of its own that calls nothing.

Python's unpickler calls what a file names, and even where it may call nothing but NumPy, a damaged
file makes it claim gigabytes or ends the process. Here names are only compared, never looked up.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["load_plain"]

_RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct")
_ARRAY, _DTYPE, _ENCODE = ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")
_NAMES = {_RECONSTRUCT, _ARRAY, _DTYPE, _ENCODE}
_CODE = re.compile(r"[iu][1248]|f[248]|b1")
_NOTHING = {"PROTO", "FRAME"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_PUSHED = """
INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
"""
_VALUES = frozenset(_PUSHED.split())


class _Made:
    """What a call would make: an array or a type, until its state is known."""

    def __init__(self, kind: tuple[str, str], code: str = "") -> None:
        self.kind, self.code = kind, code
        self.array: Any = None

    def build(self, state: Any) -> None:
        if self.kind == _DTYPE:
            order = state[1]
            if order not in ("|", "<", ">", "="):
                raise ValueError(f"an array's bytes are in the order {order!r}")
            self.code = order + self.code
            return
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _Made) or kind.kind != _DTYPE:
            raise ValueError("an array has no type")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(raw, np.dtype(kind.code))
        self.array = flat.reshape(shape, order="F" if fortran is True else "C")


class _Machine:
    """The opcodes that arrays, numbers, text and containers of them need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE", "LIST", "DICT"):
            self.container(name)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            if count > len(stack):
                raise IndexError("a tuple of what is not there")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.name(argument)
        elif name in ("REDUCE", "BUILD"):
            self.call(name)
        elif name not in _NOTHING:
            raise ValueError(f"it has the opcode {name}")

    def container(self, name: str) -> None:
        items = self.above_mark()
        if name == "DICT":
            self.stack.append({})
            self.put(self.stack[-1], items)
        else:
            self.stack.append(tuple(items) if name == "TUPLE" else items)

    def fill(self, name: str) -> None:
        if name.endswith("S"):
            items = self.above_mark()
        else:
            items = [self.stack.pop() for _ in range(1 if name == "APPEND" else 2)][::-1]
        target = self.stack[-1]
        if type(target) is list and name.startswith("APPEND"):
            target.extend(items)
        elif type(target) is dict and name.startswith("SET"):
            self.put(target, items)
        else:
            raise ValueError(f"{name} of a {type(target).__name__}")

    def put(self, target: dict[Any, Any], items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes, int):  # nested tuples take for ever to hash
                raise ValueError(f"a key is a {type(key).__name__}")
            target[key] = value

    def name(self, argument: str | None) -> None:
        if argument is None:
            last, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, last = argument.partition(" ")
        found = (str(module).replace("numpy._core", "numpy.core"), last)
        if found not in _NAMES:
            raise ValueError(f"it names {module}.{last}"[:99])
        self.stack.append(found)

    def call(self, name: str) -> None:
        given = self.stack.pop()
        target = self.stack.pop() if name == "REDUCE" else self.stack[-1]
        if name == "BUILD":
            if not isinstance(target, _Made):
                raise ValueError(f"it sets the state of a {type(target).__name__}")
            target.build(given)
        elif target == _RECONSTRUCT:
            self.stack.append(_Made(_ARRAY))
        elif target == _DTYPE:
            code = given[0]
            if not isinstance(code, str) or not _CODE.fullmatch(code):
                raise ValueError(f"an array holds {str(code)[:80]!r}, not numbers")
            self.stack.append(_Made(_DTYPE, code))
        elif target == _ENCODE and given[1:] in (("latin1",), ("latin-1",)):
            self.stack.append(given[0].encode("latin1"))
        else:
            raise ValueError(f"it calls {target!r}")


def load_plain(data: bytes) -> Any:
    """Return what a pickle holds: a dict of arrays, and of lists of numbers and text.

    Args:
        data: the whole file, of any of pickle's protocols; strings of Python 2 are text.

    Returns:
        The outermost value; arrays that are values of an outermost dict are NumPy's.

    Raises:
        Exception: of any kind, for everything else.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    (found,) = machine.stack
    if isinstance(found, dict):
        return {k: v.array if isinstance(v, _Made) else v for k, v in found.items()}
    return found
