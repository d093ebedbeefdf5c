"""``resume=FOLDER``: a run or a sweep goes on in its folder, with the settings it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.whole_file import write_text
from ste_lightning.running import files
from ste_lightning.running.reading import read_yaml, results_of

__all__ = [
    "KEY",
    "check_unchanged",
    "expanded",
    "finished_before",
    "keep_command",
    "newest",
    "without_resume",
]

KEY = "resume"

# What decides which numbers a training computes.
_IDENTITY = ("seed", "model", "data", "quantizer", "optimizer")


def _key(override: str) -> str:
    """Return what an override sets, without the marks for adding and removing."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def without_resume(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that say what is run, without those that say that it goes on."""
    return [one for one in overrides if _key(one) != KEY]


def expanded(arguments: Sequence[str]) -> list[str]:
    """Replace ``resume=FOLDER`` by all that the folder's run or sweep was started with.

    Args:
        arguments: of the command line; those beside ``resume=`` take the place of earlier ones.

    Returns:
        The arguments; as they were without ``resume=``.

    Raises:
        ConfigurationError: if the folder is not one of a run or a sweep.
    """
    given = next((one for one in arguments if one.startswith(f"{KEY}=")), None)
    if given is None:
        return list(arguments)
    name = given.partition("=")[2].strip("'\"")
    folder = Path(name).resolve()
    require(name != "" and folder.is_dir(), KEY, name, "there is no such folder")
    sweep = files.of_sweep(folder)
    source = sweep or folder / files.COMMAND
    if not source.is_file():
        raise ConfigurationError(
            f"{KEY}={name!r} cannot be used: name the folder of a run (with .hydra in it) or of a "
            "sweep (with multirun.yaml). A run that was stopped before its first step is begun "
            "anew by its own command."
        )
    hydra = OmegaConf.create(read_yaml(source, "hydra", resolve=False)).hydra
    if OmegaConf.select(hydra, "overrides.task") is None or "runtime" not in hydra:
        raise ConfigurationError(
            f"{source} cannot be used: it does not say what was run. Begin anew with the run's own "
            "command in a new folder."
        )
    where = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    mode = "MULTIRUN" if sweep else "RUN"
    own = [f"{where}='{folder}'", f"hydra.mode={mode}", f"{KEY}='{folder}'"]
    new = [one for one in arguments if _key(one) not in map(_key, own)]
    stored = [*hydra.overrides.task]
    if sweep:
        stored += hydra.overrides.hydra
        other = [one for one in new if one[:1] != "-" and not _key(one).startswith("hydra")]
        require(not other, KEY, name, f"a sweep goes on with its own settings: leave out {other}")
    taken = {_key(one) for one in (*own, *new)} | {"ckpt_path"}
    return [*_config_dir(hydra, new), *(o for o in stored if _key(o) not in taken), *new, *own]


def keep_command(cfg: DictConfig, folder: Path) -> None:
    """Write what a run was started with, as Hydra does, but whole, and once it can start.

    Hydra writes into the files themselves, before it is known whether the run can work: killed or
    refused then, a run that goes on would lose what it was started with.

    Args:
        cfg: the run's configuration.
        folder: the run's folder.
    """
    hydra = HydraConfig.get()
    place = (folder / files.COMMAND).parent
    write_text(place / "config.yaml", OmegaConf.to_yaml(cfg))
    write_text(place / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))
    write_text(folder / files.COMMAND, OmegaConf.to_yaml({"hydra": hydra}))


def _config_dir(hydra: Any, arguments: Sequence[str]) -> list[str]:
    """Return the folder of own recipes that the run was started with, unless it is given anew."""
    if any(one.partition("=")[0] in ("--config-dir", "-cd") for one in arguments):
        return []
    sources = hydra.runtime.config_sources
    return [f"--config-dir={one.path}" for one in sources if one.provider == "command-line"]


def newest(folder: Path) -> str | None:
    """Return the checkpoint from which a run goes on; None if it was stopped before the first."""
    for part in folder.glob("checkpoints/.*.ckpt.*"):
        part.unlink()  # what a killed process was writing
    last = folder / "checkpoints" / "last.ckpt"
    return str(last) if last.is_file() else None


def finished_before(monitor: str | None, overrides: Sequence[str], folder: Path) -> float | None:
    """Return the monitored value of a sweep's run that has finished.

    Raises:
        ConfigurationError: if the folder holds a run with other settings.
    """
    results = results_of(folder)
    done, now = without_resume(results["overrides"]), without_resume(overrides)
    require(done == now, KEY, str(folder), f"it holds the run {' '.join(done)}, not this one")
    value: float | None = results["metrics"].get(monitor)
    return value


def check_unchanged(settings: Mapping[str, Any], folder: Path, overrides: Sequence[str]) -> None:
    """Refuse to go on with another training than the folder's.

    A recipe or a default may have changed since. What the command line names may differ.

    Args:
        settings: the settings now.
        folder: the run's folder, with the settings of its first part.
        overrides: those of the command line.

    Raises:
        ConfigurationError: naming the first setting that has changed by itself.
    """
    if not (folder / files.CONFIG).is_file():
        return
    before = read_yaml(folder / files.CONFIG, resolve=False)
    named = [_key(one) for one in overrides]
    for group in _IDENTITY:
        old, now = dict(_leaves(group, before.get(group))), dict(_leaves(group, settings[group]))
        for path in (*now, *old):
            # optimizer.lr also sets model.optimizer.lr, which refers to it.
            chosen = any(f".{name}." in f".{path}." for name in named)
            if old.get(path) != now.get(path) and not chosen:
                raise ConfigurationError(
                    f"{KEY}={str(folder)!r} cannot be used: {path} was {old.get(path)!r} and is "
                    f"now {now.get(path)!r}. Give {path}=VALUE to say which."
                )


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for key, part in value.items() for leaf in _leaves(f"{path}.{key}", part)]
    return [(path, value)]
