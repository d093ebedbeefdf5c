"""Arguments and results of any shape as trees of plain data whose leaves are tensors."""

from __future__ import annotations

import collections
import dataclasses
import keyword
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ste_lightning.deploy.graph.steps import Record, Ref, filled
from ste_lightning.errors import ConfigurationError

__all__ = [
    "Values",
    "assembled",
    "cast",
    "dissected",
    "float_type",
    "mapped",
    "matched",
    "tensors_in",
]

_PLAIN = (type(None), bool, int, float, str)


def float_type(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """Return the type of all floats among tensors; float32 without any, ``None`` for several."""
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 else None if found else torch.float32


def cast(value: Any, dtype: torch.dtype | None) -> Any:
    """Return a value whose floats have a type; as it is for ``None``."""
    if dtype is None:
        return value
    return tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, value)


class Values(dict[str, Any]):
    """Named results, as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; there are {', '.join(self)}") from None


def dissected(
    value: Any, leaf: Callable[[Any], Ref], classes: dict[str, type] | None = None
) -> Any:
    """Return a value as a tree.

    Entries of records that are neither tensors nor plain data, such as a transformer's cache,
    are left out.

    Args:
        value: tensors and plain data in tuples, lists, dicts, named tuples and dataclasses.
        leaf: called with each tensor; returns what refers to it.
        classes: where to note the classes of records.

    Raises:
        ConfigurationError: for anything else.
    """
    if isinstance(value, (Tensor, torch.SymInt)):
        return leaf(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, value, strict=True)
        return _record("namedtuple", value, dict(fields), leaf, classes)
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(dissected(item, leaf, classes) for item in value)
    if isinstance(value, dict):
        if type(value) is not dict:
            return _record("record", value, dict(value), leaf, classes)
        if not all(isinstance(key, str) for key in value):
            raise ConfigurationError(f"the keys {list(value)} are not strings.")
        return {key: dissected(item, leaf, classes) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _record("record", value, found, leaf, classes)
    raise ConfigurationError(f"a {type(value).__name__} is neither a tensor nor plain data.")


def _record(
    kind: str,
    value: Any,
    fields: dict[str, Any],
    leaf: Callable[[Any], Ref],
    classes: dict[str, type] | None,
) -> Record:
    name, found = type(value).__name__, {}
    for key, item in fields.items():
        try:
            found[str(key)] = dissected(item, leaf, classes)
        except ConfigurationError:
            if kind == "namedtuple":
                raise
    if classes is not None and len(found) == len(fields):
        classes[name] = type(value)
    return Record(kind, name, found)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of a value; sizes as tensors, complex numbers as pairs."""
    found: list[Tensor] = []

    def leaf(tensor: Any) -> Ref:
        plain = torch.as_tensor(tensor)
        found.append(torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain)
        return Ref("")

    dissected(value, leaf)
    return found


def assembled(tree: Any, of: Callable[[Ref], Any], classes: dict[str, type]) -> Any:
    """Return the value that a tree describes.

    Args:
        tree: what :func:`dissected` returned.
        of: the tensor of a reference.
        classes: of records, by name; others become named tuples or :class:`Values`.
    """

    def made(record: Record) -> Any:
        known = classes.get(record.name)
        if known is not None:
            return known(**record.values)
        if record.kind != "namedtuple":
            return Values(record.values)
        sound = [n for n in record.values if n.isidentifier() and not keyword.iskeyword(n)]
        named = collections.namedtuple("Result", sound, rename=True)  # type: ignore[misc]
        return named(*record.values.values())

    if isinstance(tree, Ref):
        return of(tree)
    return filled(tree, of, made)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a value of tensors and plain data with changed tensors."""
    leaves: list[Any] = []

    def leaf(tensor: Any) -> Ref:
        leaves.append(change(tensor))
        return Ref(str(len(leaves) - 1))

    classes: dict[str, type] = {}
    tree = dissected(value, leaf, classes)
    return assembled(tree, lambda ref: leaves[int(ref.name)], classes)


def matched(tree: Any, value: Any, found: list[Any]) -> bool:
    """Append the tensors of a value that has a tree's form, in order; return whether it has."""
    if isinstance(tree, Ref):
        found.append(value)
        return isinstance(value, Tensor)
    if isinstance(tree, Record):
        names = getattr(value, "_fields", None) or getattr(value, "keys", lambda: ())()
        if list(names) != list(tree.values):
            return False
        parts = value if tree.kind == "namedtuple" else value.values()
        return all(matched(t, v, found) for t, v in zip(tree.values.values(), parts, strict=True))
    if isinstance(tree, dict):
        if not isinstance(value, dict) or value.keys() != tree.keys():
            return False
        return all(matched(item, value[key], found) for key, item in tree.items())
    if isinstance(tree, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(tree):
            return False
        return all(matched(t, v, found) for t, v in zip(tree, value, strict=True))
    return type(tree) is type(value) and tree == value
