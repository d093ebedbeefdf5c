"""Packed networks for other runtimes: ONNX, QONNX, torch.export, plain integers."""

from __future__ import annotations

import functools
import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.export.torch_form import plain_network
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.file.save import captured as require_captured
from ste_lightning.deploy.file.save import save
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments
from ste_lightning.deploy.graph.steps import references
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.whole_file import written_whole

__all__ = ["FORMATS", "export", "integer_state_dict"]


def export(
    network: PackedNetwork,
    path: str | Path,
    format: str,
    example: Any,
    dynamic: bool | None = None,
) -> Path:
    """Write a packed network for another runtime.

    Args:
        network: what :func:`~ste_lightning.deploy.pack` returned.
        path: where to write, whole or not at all; the parent folder is made.
        format: ``"packed"`` (:func:`~ste_lightning.deploy.file.save`), ``"onnx"`` (standard
            operators), ``"qonnx"`` (BipolarQuant, Quant and MultiThreshold nodes, for FPGA
            flows), ``"torch_export"`` (``torch.export.load``), ``"aoti"`` (compiled for this
            kind of machine by AOTInductor; needs a C++ compiler) or ``"state_dict"``
            (safetensors of the integer weights).
        example: a batch of inputs, a tuple of several, or a dict of keywords.
        dynamic: whether the batch size stays free (it alone), or all sizes are the example's;
            default free, but for ``"qonnx"``, whose executor and FPGA flows take fixed sizes.

    Returns:
        The path.

    Raises:
        ConfigurationError: for an unknown format, a network that cannot be captured, a missing
            compiler or a missing package, with the command that installs it.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    require(
        isinstance(network, PackedNetwork),
        "network",
        type(network).__name__,
        "export what pack() could trace",
    )
    if network.graph is None:
        args, kwargs = arguments(example)
        network(*args, **kwargs)
    require_captured(network)
    with written_whole(path) as temporary:
        free = format != "qonnx" if dynamic is None else dynamic
        FORMATS[format](network, temporary, example, free)
    return Path(path)


def integer_state_dict(network: PackedNetwork) -> dict[str, Tensor]:
    """Return every weight as plain tensors: integers of the packed layers as int8 (or int16).

    Keys are those of the trained network: ``NAME.weight`` (integers), ``NAME.scale``,
    ``NAME.bias``, and whatever float layers have; attention has ``NAME.q_proj.weight``,
    ``k_proj``, ``v_proj`` and ``out_proj``.
    """
    found: dict[str, Tensor] = {}
    packed = {name: m for name, m in network.module.named_modules() if isinstance(m, PackedLayer)}
    for name, layer in packed.items():
        state = layer.state_dict()
        del state["weight_bits"]
        found[f"{name}.weight"] = _integers(layer)
        found |= {f"{name}.{key}": value for key, value in state.items()}
    inside = tuple(f"{name}." for name in packed)
    others = network.module.state_dict().items()
    found |= {key: value for key, value in others if not key.startswith(inside)}
    return found


def _integers(layer: PackedLayer) -> Tensor:
    """Return the integer weights in the layout of the torch layer."""
    weight = layer.integer_weight()
    if isinstance(layer, PackedConvTranspose):
        weight = outputs_first(weight, layer.groups).contiguous()
    small = int(weight.min()) >= -128 and int(weight.max()) < 128
    return weight.to(torch.int8) if small else weight


def _example(
    network: PackedNetwork, example: Any, dynamic: bool
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Return tensors to export with, and which sizes of theirs are free.

    A batch of one would be taken for a constant: it is doubled.
    """
    graph = network.graph
    assert graph is not None
    args, kwargs = arguments(example)
    found = network.inputs(args, kwargs)
    batch = torch.export.Dim("batch", min=1)
    given, free = [], []
    for x, known in zip(found, graph.inputs, strict=True):
        opened = dynamic and bool(known.sizes) and known.sizes[0] is None
        free.append({0: batch} if opened else {})
        if opened:
            x = x[:2] if len(x) >= 2 else x[:1].repeat(2, *[1] * (x.dim() - 1))
        given.append(x)
    return tuple(given), tuple(free)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporters from reporting what concerns only their authors."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"this format needs the package {package}: pip install {' '.join(packages)}"
            )


def _onnx(
    network: PackedNetwork, path: Path, example: Any, dynamic: bool, qonnx: bool = False
) -> None:
    _needs("onnx", "onnxscript")
    plain = plain_network(network, qonnx)
    given, free = _example(network, example, dynamic)
    names = ["input"] if len(given) == 1 else [f"input_{i}" for i in range(len(given))]
    outputs = len(references(plain.output))
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            plain,
            given,
            input_names=names,
            output_names=["output"] if outputs == 1 else [f"output_{i}" for i in range(outputs)],
            dynamo=True,
            dynamic_shapes={"inputs": free},
            verbose=False,
        )
        assert program is not None
        for value, sizes in zip(program.model.graph.inputs, free, strict=False):
            require(
                not sizes or value.shape is None or not isinstance(value.shape[0], int),
                "dynamic",
                dynamic,
                f"torch's exporter fixes the batch of {value.name!r}: use dynamic=False",
            )
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # stack traces with the paths of this machine
        program.save(str(path), external_data=False)


def _program(network: PackedNetwork, example: Any, dynamic: bool) -> torch.export.ExportedProgram:
    given, free = _example(network, example, dynamic)
    program = torch.export.export(plain_network(network), given, dynamic_shapes={"inputs": free})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _torch_export(network: PackedNetwork, path: Path, example: Any, dynamic: bool) -> None:
    with torch.no_grad(), _quiet(), path.open("wb") as file:
        torch.export.save(_program(network, example, dynamic), file)


def _aoti(network: PackedNetwork, path: Path, example: Any, dynamic: bool) -> None:
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigurationError(
            "format='aoti' needs a C++ compiler: install g++ or clang++, or use 'torch_export'."
        ) from error
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), _quiet():
        program = _program(network, example, dynamic)
        made = aoti_compile_and_package(program, package_path=f"{folder}/network.pt2")
        shutil.copyfile(made, path)


def _state_dict(network: PackedNetwork, path: Path, example: Any, dynamic: bool) -> None:
    tensor_file.write(path, integer_state_dict(network), {})


FORMATS: dict[str, Callable[[PackedNetwork, Path, Any, bool], Any]] = {
    "packed": lambda network, path, example, dynamic: save(network, path),
    "onnx": _onnx,
    "qonnx": functools.partial(_onnx, qonnx=True),
    "torch_export": _torch_export,
    "aoti": _aoti,
    "state_dict": _state_dict,
}
