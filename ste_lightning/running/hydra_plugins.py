"""Hydra plugins: a flat folder of recipes as the config group ``recipe``.

``recipes:///folder`` on Hydra's search path serves ``folder/NAME.yaml`` as ``+recipe=NAME`` with
the package ``_global_``, so that a recipe needs neither a group folder nor a package line.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.paths import RECIPES
from ste_lightning.running import recipes
from ste_lightning.running.schema import Schema

__all__ = ["RecipeSearchPath", "RecipeSource", "register"]


_MOST = 1 << 16  # values of a recipe


def _refuse_endless(file: Path) -> None:
    """Refuse aliases of aliases, by which a few lines of YAML stand for billions of values."""
    known: dict[int, float] = {}

    def count(node: yaml.Node) -> float:
        if id(node) not in known:
            known[id(node)] = math.inf  # while it is counted: it holds itself
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            pairs = (part if isinstance(part, tuple) else (part,) for part in parts)
            known[id(node)] = 1 + sum(count(one) for pair in pairs for one in pair)
        return known[id(node)]

    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    if root is not None and count(root) > _MOST:
        raise ConfigurationError(
            f"{file} cannot be used: its aliases stand for more than {_MOST} values."
        )


class RecipeSource(ConfigSource):
    """Serves the YAML files of one folder as options of the group ``recipe``."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the search-path entry, ``recipes``."""
        return "recipes"

    def _inside(self, config_path: str) -> Path | None:
        """Return the path in the folder that ``config_path`` means, or None outside the group."""
        group, _, rest = config_path.strip("/").partition("/")
        return Path(self.path) / rest if group == recipes.GROUP else None

    def _file(self, config_path: str) -> Path | None:
        inside = self._inside(self._normalize_file_name(config_path))
        return inside if inside is not None and inside.is_file() else None

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a recipe; its package is global unless its header says otherwise."""
        file = self._file(config_path)
        if file is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        try:
            header = self._get_header_dict(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{file} cannot be read as UTF-8 text: {error}.") from error
        except ValueError as error:  # of a comment at its head that begins with @
            raise ConfigurationError(
                f"{file} cannot be read: {error}; write '# @package GROUP', or no @ there."
            ) from error
        header["package"] = header["package"] or "_global_"
        _refuse_endless(file)
        try:
            config = OmegaConf.load(file)
        except OSError as error:  # of a number alone
            if error.filename is not None:
                raise
            raise ConfigurationError(f"{file} cannot be used: it holds no settings.") from error
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=config,
            header=header,
        )

    def available(self) -> bool:
        """Return whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Return whether ``config_path`` is the root, the group or a subfolder of it."""
        if config_path.strip("/") == "":
            return True
        inside = self._inside(config_path)
        return inside is not None and inside.is_dir()

    def is_config(self, config_path: str) -> bool:
        """Return whether ``config_path`` is a recipe of this folder."""
        return self._file(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the recipes and subfolders under ``config_path``."""
        if config_path.strip("/") == "":
            return [recipes.GROUP] if results_filter in (None, ObjectType.GROUP) else []
        inside = self._inside(config_path)
        found: list[str] = []
        for entry in sorted(inside.iterdir()) if inside is not None and inside.is_dir() else []:
            self._list_add_result(
                files=found,
                file_path=f"{config_path}/{entry.name}",
                file_name=entry.name,
                results_filter=results_filter,
            )
        return found


class RecipeSearchPath(SearchPathPlugin):
    """Puts the user's recipe folders and the shipped one on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append every recipe folder; the first that has a name wins."""
        for folder in recipes.searched:
            search_path.append("ste_lightning", f"recipes://{folder}")


def _chosen(*, _root_: DictConfig) -> str:
    """Return the chosen recipe's name, several joined by "+", or "run" without one.

    Hydra's own node is part of the configuration before a run and kept apart within it.
    """
    hydra = _root_.hydra if "hydra" in _root_ else HydraConfig.get()
    chosen = hydra.runtime.choices.get(recipes.GROUP) or ["run"]
    parts = [chosen] if isinstance(chosen, str) else chosen
    return "+".join(part.replace("/", "-") for part in parts)


def _run_name(*, _root_: DictConfig) -> str:
    """Return a run's name for experiment loggers: recipe, seed and what else was set.

    ``digits_mlp seed=3 quantizer=float``; of a sweep every run has another.
    """
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    silent = (recipes.GROUP, "seed", "logger", "callbacks", "resume", "ckpt_path", "mode")
    said = [one for one in overrides if not one.lstrip("+~").startswith(silent)]
    return " ".join([_chosen(_root_=_root_), f"seed={_root_.seed}", *said])[:200]


def _direction(*, _root_: DictConfig) -> str:
    """Return where a search shall take the monitored metric."""
    require(_root_.monitor is not None, "monitor", None, "name the metric that the search is for")
    return "maximize" if _root_.monitor_mode == "max" else "minimize"


def _module_file(name: str) -> str:
    """Return the file of a module that can be imported, without importing it."""
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        found = None
    there = found is not None and found.has_location
    require(there, "module_file", name, "name a module that is installed and has a file")
    assert found is not None
    return str(found.origin)


def _options() -> str:
    """Return one line per config group with its options."""
    loader = GlobalHydra.instance().config_loader()
    groups = {name: loader.get_group_options(name) for name in sorted(loader.list_groups(""))}
    hidden = ("hydra", recipes.GROUP, "study", "export")  # of no use, or said elsewhere
    return "\n".join(
        f"  {name}: {', '.join(options)}"
        for name, options in groups.items()
        if options and name not in hidden
    )


def register(config_dir: str | None = None, shipped: Path = RECIPES) -> None:
    """Make recipes, the config schema and the recipe listing known to Hydra.

    Args:
        config_dir: the folder given as ``--config-dir``, which may be a flat folder of recipes.
        shipped: the folder of the shipped recipes.
    """
    recipes.search(config_dir, shipped)
    for plugin in (RecipeSource, RecipeSearchPath):
        Plugins.instance().register(plugin)
    ConfigStore.instance().store(name="ste_schema", node=Schema, provider="ste_lightning")
    OmegaConf.register_new_resolver("recipe_name", _chosen, replace=True)
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("module_file", _module_file, replace=True)
    OmegaConf.register_new_resolver("search_direction", _direction, replace=True)
    OmegaConf.register_new_resolver("recipe_listing", recipes.listing, replace=True)
    OmegaConf.register_new_resolver("recipe_names", recipes.names_in_lines, replace=True)
    OmegaConf.register_new_resolver("option_listing", _options, replace=True)
