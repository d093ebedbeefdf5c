"""The formats that packed networks are exported to: one row each.

A new format is one more row: what writes it, how its file's name ends, where it runs and, if it
runs here, what opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ste_lightning.deploy.export import gguf_file, onnx_file, torch_files, weights_file
from ste_lightning.deploy.export.c import open_c, write_c
from ste_lightning.deploy.export.html import open_html, write_html
from ste_lightning.deploy.export.order import Order, Run
from ste_lightning.deploy.file.load import load
from ste_lightning.deploy.file.save import save
from ste_lightning.deploy.graph.network import PackedNetwork

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        write: writes a captured network to a path.
        ending: of a file's name, without the first dot.
        runs_in: what runs the file, in words.
        open: returns what runs a file here, from a batch of each input to one of each result;
            it, or what it returns, is ``None`` where nothing can.
        fixed: whether all sizes are the example's unless something else is asked for.
    """

    write: Callable[[PackedNetwork, Path, Order], Any]
    ending: str
    runs_in: str
    open: Callable[[Path], Run | None] | None = None
    fixed: bool = False


FORMATS: dict[str, Format] = {
    "packed": Format(
        lambda network, path, order: save(network, path),
        "packed.safetensors",
        "deploy.load",
        load,
    ),
    "onnx": Format(onnx_file.write, "onnx", "onnxruntime", onnx_file.open_onnx),
    "qonnx": Format(onnx_file.write_qonnx, "qonnx.onnx", "qonnx", onnx_file.open_qonnx, fixed=True),
    "torch_export": Format(
        torch_files.write, "pt2", "torch.export.load", torch_files.open_exported
    ),
    "aoti": Format(
        torch_files.write_compiled, "aoti.pt2", "AOTInductor", torch_files.open_compiled
    ),
    "c": Format(
        lambda network, path, order: write_c(network, path, order.example),
        "c",
        "what a C99 compiler makes",
        open_c,
    ),
    "html": Format(
        lambda network, path, order: write_html(network, path), "html", "a browser", open_html
    ),
    "gguf": Format(gguf_file.write, "gguf", "what reads GGUF"),
    "state_dict": Format(weights_file.write, "integers.safetensors", "what reads safetensors"),
}
