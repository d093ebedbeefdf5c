"""Packed networks for other runtimes: ONNX, QONNX, torch.export, plain integers."""

from __future__ import annotations

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
from ste_lightning.deploy.file.save import save
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first
from ste_lightning.deploy.report import parts
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.whole_file import written_whole

__all__ = ["FORMATS", "export", "integer_state_dict"]


def export(network: PackedNetwork, path: str | Path, format: str, example: Tensor) -> Path:
    """Write a packed network for another runtime.

    Args:
        network: what :func:`~ste_lightning.deploy.pack` returned.
        path: where to write, whole or not at all; the parent folder is made.
        format: ``"packed"`` (:func:`~ste_lightning.deploy.file.save`), ``"onnx"`` (standard
            operators), ``"qonnx"`` (BipolarQuant, Quant and MultiThreshold nodes, for FPGA
            flows), ``"torch_export"`` (``torch.export.load``), ``"aoti"`` (compiled for this
            kind of machine by AOTInductor; needs a C++ compiler) or ``"state_dict"``
            (safetensors of the integer weights).
        example: a batch of inputs; the batch size stays free.

    Returns:
        The path.

    Raises:
        ConfigurationError: for an unknown format, a network of several inputs where only one is
            possible, a missing compiler or a missing package, with the command that installs it.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    require(
        isinstance(network, PackedNetwork),
        "network",
        type(network).__name__,
        "export what pack() could trace",
    )
    with written_whole(path) as temporary:
        FORMATS[format](network, temporary, example)
    return Path(path)


def integer_state_dict(network: PackedNetwork) -> dict[str, Tensor]:
    """Return every weight as plain tensors: integers of the packed layers as int8 (or int16).

    Keys are those of the trained network: ``NAME.weight`` (integers), ``NAME.scale``,
    ``NAME.bias``, and whatever float layers have; attention has ``NAME.q_proj.weight``,
    ``k_proj``, ``v_proj`` and ``out_proj``.
    """
    found: dict[str, Tensor] = {}
    for name in network.layer_names():
        layer = network.layer(name)
        for part_name, part in parts(layer):
            full = f"{name}.{part_name}" if part_name else name
            state = part.state_dict()
            if isinstance(part, PackedLayer):
                del state["weight_bits"]
                found[f"{full}.weight"] = _integers(part)
            found |= {f"{full}.{key}": value for key, value in state.items()}
    return found


def _integers(layer: PackedLayer) -> Tensor:
    """Return the integer weights in the layout of the torch layer."""
    weight = layer.integer_weight()
    if isinstance(layer, PackedConvTranspose):
        weight = outputs_first(weight, layer.groups).contiguous()
    small = int(weight.min()) >= -128 and int(weight.max()) < 128
    return weight.to(torch.int8) if small else weight


def _example(network: PackedNetwork, example: Tensor) -> Tensor:
    require(len(network.inputs) == 1, "inputs", network.inputs, "export networks of one input")
    # A batch of one would be taken for a constant.
    return example[:2] if len(example) >= 2 else example[:1].repeat(2, *[1] * (example.dim() - 1))


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


def _to_onnx(network: PackedNetwork, path: Path, example: Tensor, qonnx: bool) -> None:
    _needs("onnx", "onnxscript")
    plain = plain_network(network, qonnx)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            plain,
            (_example(network, example),),
            input_names=["input"],
            output_names=["output"],
            dynamo=True,
            dynamic_shapes={"inputs": ({0: batch},)},
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # stack traces with the paths of this machine
        program.save(str(path), external_data=False)


def _onnx(network: PackedNetwork, path: Path, example: Tensor) -> None:
    _to_onnx(network, path, example, qonnx=False)


def _qonnx(network: PackedNetwork, path: Path, example: Tensor) -> None:
    _to_onnx(network, path, example, qonnx=True)


def _program(network: PackedNetwork, example: Tensor) -> torch.export.ExportedProgram:
    program = torch.export.export(
        plain_network(network),
        (_example(network, example),),
        dynamic_shapes={"inputs": ({0: torch.export.Dim("batch", min=1)},)},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _torch_export(network: PackedNetwork, path: Path, example: Tensor) -> None:
    with torch.no_grad(), _quiet(), path.open("wb") as file:
        torch.export.save(_program(network, example), file)


def _aoti(network: PackedNetwork, path: Path, example: Tensor) -> None:
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
        program = _program(network, example)
        made = aoti_compile_and_package(program, package_path=f"{folder}/network.pt2")
        shutil.copyfile(made, path)


def _state_dict(network: PackedNetwork, path: Path, example: Tensor) -> None:
    tensor_file.write(path, integer_state_dict(network), {})


def _packed(network: PackedNetwork, path: Path, example: Tensor) -> None:
    save(network, path)


FORMATS: dict[str, Callable[[PackedNetwork, Path, Tensor], Any]] = {
    "packed": _packed,
    "onnx": _onnx,
    "qonnx": _qonnx,
    "torch_export": _torch_export,
    "aoti": _aoti,
    "state_dict": _state_dict,
}
