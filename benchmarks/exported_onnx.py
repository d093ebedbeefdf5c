"""Exported ONNX in onnxruntime beside its float twin and onnxruntime's own static int8.

    python benchmarks/exported_onnx.py --folder DIR            # writes what is missing, then times

Candidates take turns in one process with one thread; a cell is a median of CPU time. Networks have
random weights and batch norms after a few batches: times do not depend on what was learned.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.convert import dequantize_
from ste_lightning.deploy.export.export import write
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.models.networks import MobileNetV2, ResNet18, ResNet20

BITS = ("W1A1", "W2A2", "W4A4", "W8A8")


def quantizers(bits: str) -> dict[str, Any]:
    """Return the specifications of weights and activations."""
    width = int(bits[1])
    if width == 1:
        return {"weight_quantizer": "sign", "input_quantizer": "sign"}
    spec = {"map": "lsq", "bits": width}
    return {"weight_quantizer": spec, "input_quantizer": {**spec, "signed": False}}


def keyword_spotting(bits: str, width: int = 64) -> nn.Sequential:
    """Return a network of four depthwise-separable blocks for 49 x 10 spectra (DS-CNN's sizes)."""
    binary = bits == "W1A1"
    options = {**quantizers(bits), "bias": False, "pad_value": -1.0 if binary else 0.0}
    layers: list[nn.Module] = [
        nn.Conv2d(1, width, (10, 4), 2, (5, 1), bias=False),
        nn.BatchNorm2d(width),
    ]
    for kernel, groups in ((3, width), (1, 1)) * 4:
        layers += [] if binary else [nn.ReLU()]
        convolution = QuantConv2d(
            width, width, kernel, padding=kernel // 2, groups=groups, **options
        )
        layers += [convolution, nn.BatchNorm2d(width)]
    return nn.Sequential(
        *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 12)
    )


NETWORKS: dict[str, tuple[Callable[[str], nn.Module], tuple[int, ...]]] = {
    "ResNet-18-like": (lambda bits: ResNet18(placement="single", **quantizers(bits)), (3, 32, 32)),
    "MobileNetV2-like": (
        lambda bits: MobileNetV2(classes=10, large=False, **quantizers(bits)),
        (3, 32, 32),
    ),
    "ResNet-20": (lambda bits: ResNet20(**quantizers(bits)), (3, 32, 32)),
    "keyword spotting": (keyword_spotting, (1, 49, 10)),
}


def linear(weight: Any, inputs: Any) -> nn.Sequential:
    """Return one quantized linear layer, 2048 x 2048."""
    layer = QuantLinear(2048, 2048, weight_quantizer=weight, input_quantizer=inputs, bias=False)
    return nn.Sequential(layer)


LINEAR: dict[str, Callable[[], nn.Module]] = {
    "W1.58A8": lambda: linear("bitnet", "token"),
    "W4A8": lambda: linear({"map": "lsq", "bits": 4}, "token"),
    "W4A4": lambda: linear({"map": "lsq", "bits": 4}, {"map": "lsq", "bits": 4}),
}


def prepared(
    make: Callable[[], nn.Module], shape: tuple[int, ...], stem: Path, twin: Path
) -> dict[str, Path]:
    """Write what is missing of the packed, exported, float and static int8 files.

    Args:
        make: the network, before it has seen data.
        shape: of a sample.
        stem, twin: beginnings of the names of the network's files, and of those without bits.
    """
    files = {key: stem.with_name(f"{stem.name}_{key}") for key in ("packed", "onnx")}
    files |= {key: twin.with_name(f"{twin.name}_{key}") for key in ("float", "static")}
    if all(path.is_file() for path in files.values()):
        return files
    net, x = make().train(), torch.randn(16, *shape)
    with torch.no_grad():
        for _ in range(3):
            net(x + 0.1 * torch.randn_like(x))
    net.eval()
    packed = deploy.pack(net, x)
    deploy.save(packed, files["packed"])
    write(packed, files["onnx"], "onnx", x, target="onnxruntime")
    if not files["static"].is_file():
        write(dequantized(net), files["float"], "onnx", x)
        static_int8(files["float"], files["static"], shape)
    return files


def dequantized(net: nn.Module) -> PackedNetwork:
    """Return the float twin."""
    twin = copy.deepcopy(net)
    dequantize_(twin)
    return PackedNetwork(twin.eval(), fold=False)


def static_int8(path: Path, out: Path, shape: tuple[int, ...]) -> None:
    """Let onnxruntime quantize a float network: int8 weights per channel, uint8 activations."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"input": torch.randn(4, *shape).numpy()} for _ in range(4)]

        def get_next(self) -> object:
            return self.left.pop() if self.left else None

    simple = out.with_name(f"{out.name}_simple")
    quant_pre_process(str(path), str(simple), skip_symbolic_shape=True)
    quantize_static(
        str(simple),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    simple.unlink()


def session(path: Path, x: Tensor) -> Callable[[], object]:
    """Return a call of onnxruntime with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    feed = {made.get_inputs()[0].name: x.numpy()}
    return lambda: made.run(None, feed)


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return the median time of each call in milliseconds; they take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[next(iter(found))]) < 9:
        for name, call in calls.items():
            call()  # so that none pays for what the one before left in the caches
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: statistics.median(times) * 1e3 for name, times in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where files are kept")
    parser.add_argument("--only", default="", help="a part of the rows' names")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each cell")
    parser.add_argument("--write", action="store_true", help="write the files, and time nothing")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    rows: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        (f"{name} {bits}", lambda make=make, bits=bits: make(bits), shape)  # type: ignore[misc]
        for name, (make, shape) in NETWORKS.items()
        for bits in BITS
    ]
    rows += [(f"linear 2048 {name}", make, (2048,)) for name, make in LINEAR.items()]
    columns = ("network", "batch", "exported", "float / it", "static int8 / it", "bytes / packed")
    print("| " + " | ".join(columns) + " |")
    print("|---|---|---|---|---|---|")
    for name, make, shape in rows:
        if given.only not in name:
            continue
        stem = given.folder / name.replace(" ", "_")
        files = prepared(make, shape, stem, given.folder / stem.name.rpartition("_")[0])
        size = os.path.getsize(files["onnx"]) / os.path.getsize(files["packed"])
        for batch in () if given.write else (1, 16):
            x = torch.randn(batch, *shape)
            calls = {key: session(path, x) for key, path in files.items() if key != "packed"}
            took = medians(calls, given.seconds)
            ratios = " | ".join(f"{took[key] / took['onnx']:.2f}" for key in ("float", "static"))
            print(
                f"| {name} | {batch} | {took['onnx']:.3f} ms | {ratios} | {size:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
