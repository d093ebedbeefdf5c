"""Packed networks as C99 sources without dependencies."""

from ste_lightning.deploy.export.c.native import open_c
from ste_lightning.deploy.export.c.writer import write_c

__all__ = ["open_c", "write_c"]
