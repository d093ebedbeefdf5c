"""Packed networks for other runtimes: write a file, and prove it where it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ste_lightning.deploy.export.formats import FORMATS
from ste_lightning.deploy.export.order import Order
from ste_lightning.deploy.export.verified import verified
from ste_lightning.deploy.file.save import captured as require_captured
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.whole_file import written_together

__all__ = ["export", "write"]

_LOG = logging.getLogger(__name__)


def export(
    network: PackedNetwork,
    path: str | Path,
    format: str,
    example: Any,
    dynamic: bool | str | None = None,
    target: str = "",
) -> Path:
    """Write a packed network for another runtime, and run the file where that is installed.

    A file whose results differ from the network's is not kept: more than a tenth of the samples by
    more than rounding (ties of floats turn a few), or 0.1 % of the predictions. One that cannot be
    run here is kept, and a warning in the log says so.

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
        example: a batch of inputs, a tuple of several, or a dict of keywords; on it, results are
            compared, so give real samples, and more than one.
        dynamic: whether the batch size stays free, or all sizes are the example's; default free,
            but for ``"qonnx"``, whose executor and FPGA flows take fixed sizes. ``"all"`` frees
            all sizes that the network leaves free, such as height and width.
        target: ``"onnxruntime"`` lets ``"onnx"`` use its operator MatMulNBits for linear layers
            of floats and of tokens, whose weights then stay packed in memory, too.

    Returns:
        The path.

    Raises:
        ConfigurationError: for an unknown format or choice of sizes, a network that cannot be
            captured, a missing compiler or a missing package, with the command that installs it,
            and for a file whose results differ.
    """
    with written_together(path) as temporary:
        write(network, temporary, format, example, dynamic, target)
        args, kwargs = arguments(example)
        with torch.no_grad():
            expected = network(*args, **kwargs)
        inputs = tuple(network.inputs(args, kwargs))
        _, found, reason = verified(temporary, format, inputs, expected, rounds=bool(target))
        if found is not None and not found.right:
            raise ConfigurationError(
                f"path={str(path)!r}: what format={format!r} wrote gives other results in "
                f"{FORMATS[format].runs_in} than the packed network, {found}, by up to "
                f"{found.worst:.1e}: it is not kept; {_remedy(target, found.samples)}."
            )
    if reason and FORMATS[format].open is not None:
        _LOG.warning("%s was not verified: %s", path, reason)
    return Path(path)


def _remedy(target: str, samples: int) -> str:
    if target:
        return f"leave out target={target!r}"
    if samples < 10:
        return "give more samples, as one at a tie decides this"
    return "use format='packed', and report the network, as no setting explains this"


def write(
    network: PackedNetwork,
    path: Path,
    format: str,
    example: Any,
    dynamic: bool | str | None = None,
    target: str = "",
) -> None:
    """Write the file that :func:`export` compares.

    Args:
        network, format, example, dynamic, target: as there.
        path: in a folder of its own.

    Raises:
        ConfigurationError: as there, but for results.
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
    free = not FORMATS[format].fixed if dynamic is None else bool(dynamic)
    FORMATS[format].write(network, path, Order(example, free, target, sizes=dynamic == "all"))
