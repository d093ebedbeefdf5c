"""Objects from configuration nodes, with errors that name the key and the nearest match."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["build", "build_all"]


def build(where: str, node: Mapping[str, Any], **more: Any) -> Any:
    """Build the object that ``node`` describes.

    Args:
        where: the node's place in the configuration, for messages: ``"model"``.
        node: ``_target_``, the dotted name of a class or function, and its arguments. Nested
            nodes are built first unless ``_recursive_`` is false.
        more: further arguments.

    Raises:
        ConfigurationError: if the target is missing, cannot be imported, has no such argument or
            refuses a value.
    """
    target = node.get("_target_")
    if not target:
        raise ConfigurationError(f"{where} has no _target_: name the class to build.")
    _check_arguments(where, _find(where, str(target)), node)
    try:
        return instantiate(dict(node), _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigurationError):
            raise cause from error
        if isinstance(cause, (TypeError, ValueError, ImportError, InstantiationException)):
            raise ConfigurationError(f"{where} ({target}): {cause}") from error
        raise cause from error


def _find(where: str, target: str) -> Any:
    """Import ``package.module.Name``; Hydra's own look-up also logs what it raises."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise ConfigurationError(f"{where}._target_={target!r}: {error}.") from error
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                options = getattr(found, "__all__", dir(found))
                raise unknown(f"{where}._target_ in {name}", part, options)
            found = getattr(found, part)
        return found
    raise ConfigurationError(f"{where}._target_={target!r}: there is no module {parts[0]!r}.")


def _check_arguments(where: str, made: Any, node: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):  # some built-in types have no signature
        return
    if any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values()):
        return
    for key in node:
        if not key.startswith("_") and key not in parameters:
            raise unknown(f"key of {where}", key, parameters)


def build_all(where: str, nodes: Mapping[str, Mapping[str, Any] | None]) -> list[Any]:
    """Build every node of a group such as ``callbacks``; a null entry is left out."""
    return [build(f"{where}.{name}", node) for name, node in nodes.items() if node is not None]
