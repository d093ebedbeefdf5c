"""Running an exported network where it was exported to."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.file.load import load
from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["RUNTIMES", "runtime"]


def runtime(
    path: str | Path, format: str, batch: int | None = None
) -> Callable[[Tensor], Tensor] | None:
    """Return a function that runs an exported file, or ``None`` for a file of weights alone.

    Args:
        path: the exported file.
        format: the format it was exported to.
        batch: how many samples the file takes, if their number is fixed.

    Raises:
        ConfigurationError: for an unknown format or a missing package.
    """
    if format not in RUNTIMES:
        raise unknown("format", format, RUNTIMES)
    make = RUNTIMES[format]
    return None if make is None else _in_batches(make(Path(path)), batch)


def _in_batches(run: Callable[[Tensor], Tensor], size: int | None) -> Callable[[Tensor], Tensor]:
    """Return what runs any number of samples by batches of one size; the last one is filled."""
    if size is None:
        return run

    def one(x: Tensor) -> Tensor:
        return run(torch.cat([x, x.new_zeros(size - len(x), *x.shape[1:])]))[: len(x)]

    return lambda x: torch.cat([one(part) for part in torch.split(x, size)])


def _packed(path: Path) -> Callable[[Tensor], Tensor]:
    return load(path)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(f"running this format needs {package}: pip install {package}")


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        (y,) = session.run(None, {name: x.numpy()})
        return torch.from_numpy(y)

    return run


def _qonnx(path: Path) -> Callable[[Tensor], Tensor]:
    _require("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    model: Any = ModelWrapper(str(path))
    inputs, outputs = model.graph.input[0].name, model.graph.output[0].name

    size = model.get_tensor_shape(inputs)[0]  # of a batch; 0 where it is free

    def run(x: Tensor) -> Tensor:
        if not size:  # qonnx executes fixed shapes
            model.set_tensor_shape(inputs, list(x.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.from_numpy(execute_onnx(model, {inputs: x.numpy()})[outputs])

    return _in_batches(run, size or None)


def _torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    with path.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = module(x)
        return y

    return run


def _aoti(path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled: Callable[[Tensor], Tensor] = torch._inductor.aoti_load_package(str(path))

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            return compiled(x)

    return run


RUNTIMES: dict[str, Callable[[Path], Callable[[Tensor], Tensor]] | None] = {
    "packed": _packed,
    "onnx": _onnx,
    "qonnx": _qonnx,
    "torch_export": _torch_export,
    "aoti": _aoti,
    "state_dict": None,
}
