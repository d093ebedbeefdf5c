"""Predict with a packed file: ``python -m ste_lightning.predict model=FILE input=FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.arguments import key_values

__all__ = ["main"]

USAGE = """\
Predict with a packed network, without training code.

  python -m ste_lightning.predict model=FILE input=FILE-OR-FOLDER [key=value ...]

Keys:
  model=FILE       a packed network (python -m ste_lightning.export format=packed)
  input=PATH       images (png, jpg, ...; a folder of them), an array (npy, npz) with one sample
                   per row, or a csv file of numbers with one sample per line; bytes are pixels of
                   0..255, other numbers are as the network's own data were before normalization;
                   for a network of several inputs an npz file of arrays with their names
  out=FILE         predictions as csv; default predictions.csv
  batch_size=64    samples at a time
  normalize=true   apply the mean and deviation that the file carries; false: arrays are ready
  range=0..1       what black and white were in training, where the file does not say it
  pixels=0..255    what black and white are in the array
  on_error=skip    name samples that cannot be read and go on; stop: write nothing
  threads=1        number of threads; default what torch takes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, 1 when a setting or an input was refused, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"-h", "--help", "help"} & set(given):
        print(USAGE, end="")
        return 0 if given else 1
    from ste_lightning.deploy.predict.command import KEYS, predict_files

    try:
        predict_files(**key_values(given, KEYS, ("model", "input")))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
