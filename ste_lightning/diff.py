"""Compare a packed file with its model: ``python -m ste_lightning.diff ckpt_path=F model=F``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ste_lightning.io.arguments import key_values
from ste_lightning.running.command import answered

__all__ = ["main"]

USAGE = """\
Compare a packed network with the trained model it was made of, layer by layer.

  python -m ste_lightning.diff ckpt_path=FILE model=FILE [input=FILE-OR-FOLDER] [key=value ...]

Keys:
  ckpt_path=FILE   the checkpoint of a run (needs the config.yaml beside it)
  model=FILE       the packed network (python -m ste_lightning.export format=packed)
  input=PATH       images, an array or a table, as for ste_lightning.predict; default the run's
                   test data
  config=FILE      the run's config.yaml, if it is elsewhere
  samples=64       how many samples to compare on
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0 where rounding explains all differences, 1 where it does not or a
        setting was refused.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"-h", "--help", "help"} & set(given):
        print(USAGE, end="")
        return 0 if given else 1
    from ste_lightning.running.comparing import KEYS, run_diff

    def compared() -> int:
        return int(not run_diff(**key_values(given, KEYS, ("ckpt_path", "model"))))

    return answered(compared)


if __name__ == "__main__":
    sys.exit(main())
