"""What packed products are compared with: onnxruntime, torch's int8, larq-compute-engine."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
import warnings
from typing import Any

import torch
from packed_timing import FLOAT, INT8, Call
from torch import Tensor, nn


def onnx_calls(module: nn.Module, x: Tensor, calibration: bool = True) -> dict[str, Call]:
    """Return onnxruntime's float32 and its statically quantized int8 form."""
    try:
        import onnx
        import onnxruntime as ort
        from onnxruntime.quantization import CalibrationDataReader, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        return {}
    import logging
    import pathlib

    logging.disable(logging.WARNING)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": torch.randn_like(x).numpy()} for _ in range(4)]

        def get_next(self) -> object:
            return self.left.pop() if self.left else None

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    found: dict[str, Call] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module, (x,), input_names=["x"], dynamo=True, verbose=False)
            assert program is not None
            program.save(str(path / "f.onnx"), external_data=False)
        files = {f"{FLOAT} onnxruntime": path / "f.onnx"}
        try:
            quant_pre_process(str(path / "f.onnx"), str(path / "p.onnx"), skip_symbolic_shape=True)
            quantize_static(str(path / "p.onnx"), str(path / "q.onnx"), Reader())
            files[f"{INT8} onnxruntime"] = path / "q.onnx"
        except (ValueError, RuntimeError, KeyError) as error:
            print(f"  (onnxruntime int8 left out: {error})", file=sys.stderr)
        for name, file in files.items():
            model = onnx.load(file).SerializeToString()
            session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
            feed = {session.get_inputs()[0].name: x.numpy()}
            found[name] = lambda session=session, feed=feed: session.run(None, feed)
    return found


def int_mm(x: Tensor, outputs: int) -> dict[str, Call]:
    """Return torch's int8 product, with the quantization of its input; it needs 17 rows."""
    w = torch.randint(-127, 128, (x.shape[1], outputs), dtype=torch.int8)

    def call() -> Tensor:
        scale = x.abs().amax() / 127
        q = (x / scale).round().to(torch.int8)
        return torch._int_mm(q, w).float() * scale

    start = time.process_time()
    call()
    if time.process_time() - start > 0.2:
        return {}  # without VNNI it is reference code
    return {f"{INT8} torch._int_mm": call}


def larq_calls(x: Tensor, codes: Tensor) -> dict[str, Call]:
    """Return larq-compute-engine's binary convolution with stride 1; it has no dense layer.

    Its outputs are the integers that ours are, but at the border: its "same" padding is +1, the
    padding in the tables is -1.

    Args:
        x: (1, channels, height, width), float32; of a linear layer (1, channels, rows, 1).
        codes: (outputs, kernel x kernel, channels), 0 for -1 and 1 for +1.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import larq_compute_engine as lce
        import tensorflow as tf
    except ImportError:
        return {}
    outputs, taps, channels = codes.shape
    kernel = math.isqrt(taps)
    signs = 2.0 * codes.view(outputs, kernel, kernel, channels).permute(1, 2, 3, 0) - 1
    weight = tf.constant(signs.numpy())
    border = [kernel // 2, kernel // 2]
    images = x.permute(0, 2, 3, 1).contiguous().numpy()

    # a sign, padding with ones and constant signs are what the converter recognizes
    @tf.function(input_signature=[tf.TensorSpec(images.shape, tf.float32)])  # type: ignore[misc]
    def convolve(x: Any) -> Any:
        x = tf.where(x >= 0, 1.0, -1.0)
        x = tf.pad(x, [[0, 0], border, border, [0, 0]], constant_values=1.0)
        return tf.nn.conv2d(x, weight, 1, "VALID")

    module = tf.Module()
    module.convolve = convolve
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, convolve)
        model = lce.convert_saved_model(folder)
    # the fastest of its three kernels on x86
    session = lce.testing.Interpreter(model, torch.get_num_threads(), use_indirect_bgemm=True)
    try:
        session.predict(images)
    except RuntimeError as error:
        print(f"  (larq-compute-engine left out, it needs numpy < 2: {error})", file=sys.stderr)
        return {}
    # one call of the engine: Interpreter.predict takes a batch apart and copies its results
    return {"binary larq-compute-engine": lambda: session.interpreter.predict([images])}
