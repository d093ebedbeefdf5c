"""Compare recipes: ``python -m ste_lightning.compare +recipe=a,b,c seeds=5 [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from ste_lightning import train
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.running.command import complain, parsed

__all__ = ["main", "sweep_of"]

_OF_THE_SWEEP = ("hydra", "sweep", "launcher", "name")

USAGE = """Compare recipes, or settings of one, over seeds.

  python -m ste_lightning.compare +recipe=a,b,c [seeds=5] [key=value ...]

Every recipe is trained with the seeds 0, 1, ...; one table has the means with 95 % intervals and
the differences to the first, seed by seed, one figure shows all runs.

  +recipe=NAME quantizer=float,sign   settings of one recipe; the first is the baseline
  sweep.baseline='{recipe: b}'        another baseline
  launcher=joblib                     runs side by side; hydra.launcher.n_jobs=4
  resume=FOLDER                       go on with a comparison that was stopped
"""


def sweep_of(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the sweep that makes the comparison.

    Args:
        arguments: of the command line.

    Raises:
        ConfigurationError: without two settings to compare, and for wrong ``seeds``.
    """
    seeds, rest = "5", []
    for one in arguments:
        key, _, value = one.partition("=")
        if key == "resume":
            return list(arguments)
        require(key != "seed", "seed", value, "say seeds=NUMBER")
        if key == "seeds":
            seeds = value
        else:
            rest.append(one)
    good = seeds.isdecimal() and int(seeds) > 0
    require(good, "seeds", seeds, "say how many: seeds=5 trains with the seeds 0 to 4")
    overrides = {one: parsed(one) for one in rest}
    if not any(one.startswith("+recipe=") for one in rest):
        raise ConfigurationError("+recipe=NAME,NAME is missing: say which recipes to compare.")
    if not any(o is not None and o.is_sweep_override() for o in overrides.values()):
        raise ConfigurationError(
            "nothing to compare: name two recipes (+recipe=a,b), or two values of a setting "
            "(quantizer=float,sign)."
        )
    figure = "+sweep.figures.comparison._target_=ste_lightning.figures.comparison"
    place = "hydra.sweep.dir=multirun/compare/${now:%Y-%m-%d_%H-%M-%S-%f}"
    own = [] if any(one.startswith("hydra.sweep.dir=") for one in rest) else [place]
    every = ",".join(map(str, range(int(seeds))))
    words = [_of_the_runs(one, override) for one, override in overrides.items()]
    return ["--multirun", *words, f"seed={every}", figure, *own]


def _of_the_runs(argument: str, override: Override | None) -> str:
    """Return the override as one of the runs alone.

    Hydra first makes a configuration of the sweep, without what is swept: where recipes are, it
    has neither model nor data. A choice of one value is swept and so left to the runs.
    """
    if override is None or override.is_delete() or override.is_sweep_override():
        return argument
    group = override.key_or_group.partition(".")[0]
    if group in _OF_THE_SWEEP:
        return argument
    key, _, value = argument.partition("=")
    if override.value() is None:  # Hydra has no choice of null
        return argument
    return f"{key}=choice({value})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 when a setting was refused or a run failed.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or set(given) & {"--help", "-h"}:
        print(USAGE)
        return int(not given)
    try:
        return train.main(sweep_of(given))
    except ConfigurationError as error:
        complain(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
