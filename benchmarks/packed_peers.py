"""What packed products are compared with: onnxruntime's float32 and int8, torch's int8."""

from __future__ import annotations

import sys
import time
import warnings

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
    import tempfile

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
