"""Packed networks as torch's own exported programs, and compiled by AOTInductor."""

from __future__ import annotations

import io
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from ste_lightning.deploy.export.order import Order, Run, example_of, quiet
from ste_lightning.deploy.export.torch_form import PlainNetwork
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import ConfigurationError

__all__ = ["open_compiled", "open_exported", "write", "write_compiled"]


def _program(network: PackedNetwork, order: Order) -> torch.export.ExportedProgram:
    given, free = example_of(network, order)
    program = torch.export.export(PlainNetwork(network), given, dynamic_shapes={"inputs": free})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write an exported program."""
    with torch.no_grad(), quiet(), path.open("wb") as file:
        torch.export.save(_program(network, order), file)


def write_compiled(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write what AOTInductor compiles.

    Raises:
        ConfigurationError: without a C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigurationError(
            "format='aoti' needs a C++ compiler: install g++ or clang++, or use 'torch_export'."
        ) from error
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), quiet():
        made = aoti_compile_and_package(
            _program(network, order), package_path=f"{folder}/network.pt2"
        )
        shutil.copyfile(made, path)


def open_exported(path: Path) -> Run:
    """Return what runs an exported program."""
    with path.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()
    return _without_gradients(module)


def open_compiled(path: Path) -> Run:
    """Return what runs a compiled program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _without_gradients(torch._inductor.aoti_load_package(str(path)))


def _without_gradients(call: Run) -> Run:
    def run(*inputs: torch.Tensor) -> Any:
        with torch.no_grad():
            return call(*inputs)

    return run
