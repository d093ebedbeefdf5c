"""Packed networks for other runtimes: write a file, and run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ste_lightning.deploy.export.formats import FORMATS
from ste_lightning.deploy.export.order import Order, in_batches
from ste_lightning.deploy.file.save import captured as require_captured
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.errors import require, unknown
from ste_lightning.io.whole_file import written_together

__all__ = ["export", "runtime"]


def export(
    network: PackedNetwork,
    path: str | Path,
    format: str,
    example: Any,
    dynamic: bool | str | None = None,
    target: str = "",
) -> Path:
    """Write a packed network for another runtime.

    Args:
        network: what :func:`~ste_lightning.deploy.pack` returned.
        path: where to write, whole or not at all; the parent folder is made.
        format: ``"packed"`` (:func:`~ste_lightning.deploy.file.save`), ``"onnx"`` (standard
            operators), ``"qonnx"`` (BipolarQuant, Quant and MultiThreshold nodes, for FPGA
            flows), ``"torch_export"`` (``torch.export.load``), ``"aoti"`` (compiled for this
            kind of machine by AOTInductor; needs a C++ compiler), ``"c"`` (C99 without
            dependencies, one sample at a time: ``NAME.c``, and beside it ``NAME.h`` and a
            self-test ``NAME_main.c``), ``"html"`` (a page that runs a small network of pictures in
            a browser, one sample at a time), ``"gguf"``
            (linear layers and embeddings in blocks of llama.cpp) or ``"state_dict"``
            (safetensors of the integer weights).
        example: a batch of inputs, a tuple of several, or a dict of keywords.
        dynamic: whether the batch size stays free, or all sizes are the example's; default free,
            but for ``"qonnx"``, whose executor and FPGA flows take fixed sizes. ``"all"`` frees
            all sizes that the network leaves free, such as height and width.
        target: ``"onnxruntime"`` lets ``"onnx"`` use its operator MatMulNBits for linear layers
            of floats and of tokens, whose weights then stay packed in memory, too.

    Returns:
        The path.

    Raises:
        ConfigurationError: for an unknown format or choice of sizes, a network that cannot be
            captured, a missing compiler or a missing package, with the command that installs it.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    require(
        isinstance(network, PackedNetwork),
        "network",
        type(network).__name__,
        "export what pack() could trace",
    )
    require(
        dynamic in (None, True, False, "all"), "dynamic", dynamic, "use True, False, 'all' or None"
    )
    known = ("", "onnxruntime") if format == "onnx" else ("",)
    require(
        target in known,
        "target",
        target,
        f"format={format!r} takes {' or '.join(map(repr, known))}",
    )
    if network.graph is None:
        args, kwargs = arguments(example)
        network(*args, **kwargs)
    require_captured(network)
    with written_together(path) as temporary:
        free = not FORMATS[format].fixed if dynamic is None else bool(dynamic)
        order = Order(example, free, target, sizes=dynamic == "all")
        FORMATS[format].write(network, temporary, order)
    return Path(path)


def runtime(
    path: str | Path, format: str, batch: int | None = None
) -> Callable[[Tensor], Tensor] | None:
    """Return a function that runs an exported file, or ``None`` for what cannot run here.

    Args:
        path: the exported file.
        format: the format it was exported to.
        batch: how many samples the file takes, if their number is fixed.

    Raises:
        ConfigurationError: for an unknown format or a missing package.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    opened = FORMATS[format].open
    run = None if opened is None else opened(Path(path))
    return None if run is None else in_batches(run, batch)
