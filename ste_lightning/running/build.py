"""Objects from configuration nodes, with errors that name the key and the nearest match."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

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
    try:
        made = get_object(str(target))
    except Exception as error:
        reason = error.__cause__ or error
        raise ConfigurationError(f"{where}._target_={target!r}: {reason}.") from error
    _check_arguments(where, made, node)
    try:
        return instantiate(dict(node), _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigurationError):
            raise cause from error
        if isinstance(cause, (TypeError, ValueError, ImportError, InstantiationException)):
            raise ConfigurationError(f"{where} ({target}): {cause}") from error
        raise cause from error


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
