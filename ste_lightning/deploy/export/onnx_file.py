"""Packed networks as ONNX, of standard operators or with those of QONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning.deploy.export.onnx_form import OnnxForm, described
from ste_lightning.deploy.export.order import Order, Run, example_of, in_batches, needs, quiet
from ste_lightning.deploy.export.qonnx_form import qonnx_layer
from ste_lightning.deploy.export.torch_form import PlainNetwork
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.steps import references
from ste_lightning.errors import require

__all__ = ["open_onnx", "open_qonnx", "write", "write_qonnx"]

_OPSET = 18  # raised where weights need it


def write(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write standard operators, weights at their width, and what the network's ``info`` tells."""
    form = OnnxForm()
    exported = _exported(PlainNetwork(network, form), network, order)
    model = form.finished(exported, bool(order.target))
    path.write_bytes(described(model, network).SerializeToString())


def write_qonnx(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write BipolarQuant, Quant and MultiThreshold nodes, for FPGA flows."""
    model = _exported(PlainNetwork(network, qonnx_layer), network, order)
    path.write_bytes(described(model, network).SerializeToString())


def _exported(plain: PlainNetwork, network: PackedNetwork, order: Order) -> Any:
    """Return the model that torch's exporter makes."""
    needs("onnx", "onnxscript")
    given, free = example_of(network, order)
    names = ["input"] if len(given) == 1 else [f"input_{i}" for i in range(len(given))]
    outputs = len(references(plain.output))
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            plain,
            given,
            input_names=names,
            output_names=["output"] if outputs == 1 else [f"output_{i}" for i in range(outputs)],
            dynamo=True,
            dynamic_shapes={"inputs": free},
            verbose=False,
            opset_version=_OPSET,
        )
        assert program is not None
        for value, sizes in zip(program.model.graph.inputs, free, strict=False):
            require(
                not sizes or value.shape is None or not isinstance(value.shape[0], int),
                "dynamic",
                order.free,
                f"torch's exporter fixes the batch of {value.name!r}: use dynamic=False",
            )
        return program.model_proto


def open_onnx(path: Path) -> Run:
    """Return what runs a file in onnxruntime, with torch's number of threads."""
    needs("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: Tensor) -> Any:
        given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        made = tuple(torch.from_numpy(np.asarray(y)) for y in session.run(None, given))
        return made if len(made) > 1 else made[0]

    return run


def open_qonnx(path: Path) -> Run:
    """Return what runs a file in qonnx; batches are of the size that it fixes."""
    needs("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    model: Any = ModelWrapper(str(path))
    names = [given.name for given in model.graph.input]
    results = [made.name for made in model.graph.output]
    size = model.get_tensor_shape(names[0])[0]  # of a batch; 0 where it is free

    def run(*inputs: Tensor) -> Any:
        given = dict(zip(names, inputs, strict=True))
        for name, x in given.items():
            if not size:  # qonnx executes fixed shapes
                model.set_tensor_shape(name, list(x.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = execute_onnx(model, {name: x.numpy() for name, x in given.items()})
        made = tuple(torch.from_numpy(found[name]) for name in results)
        return made if len(made) > 1 else made[0]

    return in_batches(run, size or None)
