"""Packed networks for other runtimes."""

from ste_lightning.deploy.export.export import export
from ste_lightning.deploy.export.formats import FORMATS
from ste_lightning.deploy.export.gguf_file import read_gguf
from ste_lightning.deploy.export.verified import runtime
from ste_lightning.deploy.export.weights_file import integer_state_dict

__all__ = ["FORMATS", "export", "integer_state_dict", "read_gguf", "runtime"]
