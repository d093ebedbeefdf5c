"""Packed networks for other runtimes."""

from ste_lightning.deploy.export.export import FORMATS, export, integer_state_dict

__all__ = ["FORMATS", "export", "integer_state_dict"]
