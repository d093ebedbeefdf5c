"""Objects from configuration nodes, with errors that name the key and the nearest match."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.running.arguments import check_arguments, takes_description
from ste_lightning.running.failures import RunError, described, in_users_code, users_error
from ste_lightning.running.imports import refuse_hidden

__all__ = ["build", "build_all", "build_function", "build_model"]

Descriptions = Callable[[Any, str], bool]

_REFUSALS = (TypeError, ValueError, ImportError, MisconfigurationException)


def build(where: str, node: Any, kind: type | None = None, **more: Any) -> Any:
    """Build the object that ``node`` describes, nested nodes first.

    Args:
        where: the node's place in the configuration, for messages: ``"model"``.
        node: ``_target_``, the dotted name of a class or function, and its arguments.
            ``_recursive_: false`` hands nested nodes on as they are, ``_partial_: true`` makes a
            function of what is missing, ``_args_`` lists arguments by position, as in Hydra.
        kind: the class that the object must be of; None: any.
        more: further arguments, built already.

    Raises:
        ConfigurationError: if the target is missing, may not be named in a configuration (Hydra's
            policy), cannot be imported, has no such argument or refuses a value.
        RunError: if code fails while it builds.
    """
    return _build(where, node, kind, more)


def build_function(where: str, node: Any) -> Callable[..., Any]:
    """Return the function of one argument that ``node`` names, its other arguments being set.

    Raises:
        ConfigurationError: as :func:`build`, and if one argument is not what it lacks.
    """
    check_arguments(where, _find(where, node), node, positional=1)
    function: Callable[..., Any] = _build(where, {**node, "_partial_": True}, None, {})
    return function


def build_model(where: str, node: Any, kind: type) -> Any:
    """Build a model; a nested node stays a description where the model is annotated to take one.

    ``Classifier`` takes its network as a mapping, which its checkpoints can hold; an ordinary
    module with ``net: nn.Module`` gets the network.
    """
    return _build(where, node, kind, {}, takes_description)


def build_all(where: str, nodes: Mapping[str, Any], kind: type | None = None) -> dict[str, Any]:
    """Build every node of a group such as ``callbacks``, by name; a null entry is left out."""
    return {
        name: build(f"{where}.{name}", node, kind)
        for name, node in nodes.items()
        if node is not None
    }


def _build(
    where: str,
    node: Any,
    kind: type | None,
    more: Mapping[str, Any],
    stays: Descriptions = lambda made, argument: False,
) -> Any:
    made = _find(where, node)
    if kind is not None and isinstance(made, type) and not issubclass(made, kind):
        raise _of_another_kind(where, node, kind, made)
    check_arguments(where, made, node, given=tuple(more))
    recursive = node.get("_recursive_", True)
    arguments: dict[str, Any] = {}
    for key, value in node.items():
        if recursive and stays(made, str(key)):
            _check_description(f"{where}.{key}", value)
            arguments[key] = value
        elif not str(key).startswith("_"):
            arguments[key] = _nested(f"{where}.{key}", value) if recursive else value
    positional = _nested(f"{where}._args_", node["_args_"]) if "_args_" in node else []
    try:
        # Hydra's policy says what a configuration may name; it also watches the call.
        function = instantiate({"_target_": str(node["_target_"]), "_partial_": True})
        if node.get("_partial_"):
            return functools.partial(function, *positional, **arguments, **more)
        built = function(*positional, **arguments, **more)
    except ConfigurationError as error:
        cause = users_error(error)
        if cause is None:
            raise
        raise RunError(f"{where} ({node['_target_']}): {described(cause)}") from error
    except Exception as error:
        raise _explained(where, str(node["_target_"]), error) from error
    if kind is not None and not isinstance(built, kind):
        raise _of_another_kind(where, node, kind, type(built))
    return built


def _nested(where: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _build(where, value, None, {})
        return {key: _nested(f"{where}.{key}", part) for key, part in value.items()}
    if isinstance(value, list):
        return [_nested(f"{where}[{index}]", part) for index, part in enumerate(value)]
    return value


def _check_description(where: str, value: Any) -> None:
    """Look at nodes that something else will build later."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            check_arguments(where, _find(where, value), value)
        for key, part in value.items():
            _check_description(f"{where}.{key}", part)


def _explained(where: str, target: str, error: Exception) -> Exception:
    said = " ".join(str(error).split())
    if isinstance(error, InstantiationException):
        return ConfigurationError(f"{where}._target_={target!r} cannot be used: {said}")
    if isinstance(error, _REFUSALS) and not in_users_code(error):
        return ConfigurationError(f"{where} ({target}): {said}")
    return RunError(f"{where} ({target}) cannot be built: {described(error)}")


def _of_another_kind(
    where: str, node: Mapping[str, Any], kind: type, made: type
) -> ConfigurationError:
    return ConfigurationError(
        f"{where}._target_={node['_target_']!r} cannot be used: {made.__name__} is no "
        f"{kind.__name__}."
    )


def _find(where: str, node: Any) -> Any:
    """Import the target; Hydra's own look-up does not say what is near a name."""
    if not isinstance(node, Mapping) or not node.get("_target_"):
        raise ConfigurationError(
            f"{where} has no _target_: name the class to build, as in "
            f"{where}={{_target_: package.module.Class}}."
        )
    target = str(node["_target_"])
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise RunError(f"{where}._target_={target!r}: {described(error)}") from error
            continue
        except Exception as error:
            raise RunError(f"{where}._target_={target!r}: {described(error)}") from error
        refuse_hidden(f"{where}._target_", target)
        for part in parts[length:]:
            if not hasattr(found, part):
                options = getattr(found, "__all__", dir(found))
                raise unknown(f"{where}._target_ in {name}", part, options)
            found = getattr(found, part)
        if not callable(found):
            raise ConfigurationError(f"{where}._target_={target!r} cannot be called.")
        return found
    raise ConfigurationError(
        f"{where}._target_={target!r}: there is no module {parts[0]!r}. A module of your own is "
        f"found in the current folder, in the folder of --config-dir, and where PYTHONPATH says; "
        f"searched: {', '.join(path or '.' for path in sys.path[:3])}, ..."
    )
