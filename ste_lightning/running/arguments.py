"""Arguments of a configuration node against the signature of what it builds."""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["check_arguments", "check_values", "takes_description"]

_SCALARS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "null",
}
_LISTS = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable)
_HYDRAS = ("_args_", "_convert_", "_partial_", "_recursive_", "_target_")
_MAPPINGS = (dict, collections.abc.Mapping)


def check_arguments(
    where: str, made: Any, node: Mapping[str, Any], positional: int = 0, given: Sequence[str] = ()
) -> None:
    """Refuse arguments that ``made`` does not have, lacks, or cannot take.

    A value is only refused where the annotation leaves no doubt: an ``int`` given as text, say.
    Where the default contradicts the annotation, the annotation is not believed.

    Args:
        where: the node's place in the configuration, for messages.
        made: the class or function.
        node: its arguments; keys with a leading underscore are Hydra's.
        positional: how many arguments will come by position.
        given: names of further arguments that will come.

    Raises:
        ConfigurationError: with the place, the value and what is allowed.
    """
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # some built-in types have no signature
        return
    parameters = signature.parameters
    keys = [key for key in node if not key.startswith("_")]
    for key in node:
        if key.startswith("_") and key not in _HYDRAS:
            raise unknown(f"key of {where}", key, _HYDRAS)
    if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values()):
        for key in keys:
            if key not in parameters:
                raise unknown(f"key of {where}", key, parameters)
    if "_args_" not in node and (positional or not node.get("_partial_")):
        _check_complete(where, signature, [None] * positional, [*keys, *given])
    check_values(where, made, {key: node[key] for key in keys})


def check_values(where: str, made: Any, values: Mapping[str, Any]) -> None:
    """Refuse values that the annotations of ``made`` exclude; see :func:`check_arguments`."""
    parameters, hints = inspect.signature(made).parameters, _hints(made)
    for key, value in values.items():
        if key in parameters and key in hints:
            _check_value(f"{where}.{key}", value, hints[key], parameters[key].default)


def takes_description(made: Any, argument: str) -> bool:
    """Return whether ``argument`` is annotated as a mapping: it then wants a node as it is."""
    hint = _hints(made).get(argument)
    return any(_origin(part) in _MAPPINGS for part in _alternatives(hint))


def _check_complete(
    where: str, signature: inspect.Signature, positional: list[Any], names: Sequence[str]
) -> None:
    try:
        signature.bind(*positional, **dict.fromkeys(names))
    except TypeError as error:
        raise ConfigurationError(f"{where} cannot be built: {error}.") from None


def _hints(made: Any) -> dict[str, Any]:
    function = inspect.getattr_static(made, "__init__") if isinstance(made, type) else made
    try:
        return get_type_hints(inspect.unwrap(function))
    except (AttributeError, NameError, TypeError):  # names that only type checkers import
        return {}


def _check_value(path: str, value: Any, hint: Any, default: Any) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        return
    if default is not inspect.Parameter.empty and type(value) is type(default):
        return
    if _fits(value, hint) is False:
        allowed = " or ".join(dict.fromkeys(map(_words, _alternatives(hint))))
        raise ConfigurationError(f"{path}={value!r} cannot be used: use {allowed}.")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _origin(hint: Any) -> Any:
    return get_origin(hint) or hint


def _fits(value: Any, hint: Any) -> bool | None:
    """Return whether ``value`` is of the type ``hint``; None where that is not known."""
    answers = [_fits_one(value, part) for part in _alternatives(hint)]
    return True if True in answers else None if None in answers else False


def _fits_one(value: Any, hint: Any) -> bool | None:
    origin = _origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in _SCALARS:
        return isinstance(value, hint)
    if origin in _LISTS:
        if not isinstance(value, (list, tuple)):
            return False
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        if len(inner) != 1:
            return None
        answers = [_fits(item, inner[0]) for item in value]
        return False if False in answers else None if None in answers else True
    if origin in _MAPPINGS:
        return isinstance(value, Mapping)
    return None


def _words(hint: Any) -> str:
    origin = _origin(hint)
    if origin is Literal:
        return ", ".join(map(str, get_args(hint)))
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin in _LISTS:
        inner = {(int,): "integers", (float,): "numbers", (str,): "texts"}
        return "a list of " + inner.get(get_args(hint)[:1], "values")
    return "a mapping" if origin in _MAPPINGS else str(hint)
