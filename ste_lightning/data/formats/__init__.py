"""Readers of the files in which public data sets are distributed.

Nothing here unpickles: the one pickled format, CIFAR's batches for Python, is read by a reader that
knows NumPy arrays, numbers, text and containers, and refuses everything else.
"""

from ste_lightning.data.formats.arrays import read_arrays
from ste_lightning.data.formats.cifar import read_cifar
from ste_lightning.data.formats.folders import read_folder
from ste_lightning.data.formats.hugging_face import read_split
from ste_lightning.data.formats.idx import read_idx
from ste_lightning.data.formats.tables import read_table

__all__ = ["read_arrays", "read_cifar", "read_folder", "read_idx", "read_split", "read_table"]
