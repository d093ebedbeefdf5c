"""Packed linear layers and convolutions on a GPU, beside torch's own products.

    python benchmarks/packed_gpu.py

Float in, float out; activations are quantized inside the timed region. Each row's functions take
turns; a time is the median over CUDA events. Equality with the CPU's results is checked first.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning import deploy
from ste_lightning.layers import QuantConv2d, QuantLinear


def median_times(functions: list[Callable[[], object]], repeats: int = 50) -> list[float]:
    """Return the median time of a call of each, in microseconds."""
    for function in functions * 3:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) * 1e3)
    return [statistics.median(found) for found in times]


def row(name: str, layer: nn.Module, x: Tensor, product: Callable[..., Tensor]) -> None:
    """Print one row: our time, and that of the float products."""
    packed = deploy.pack(nn.Sequential(layer.eval()))
    expected = packed(x)
    packed.to("cuda")
    at = x.cuda()
    equal = torch.equal(packed(at).cpu(), expected)
    weights = {t: layer.weight.detach().to("cuda", t) for t in (torch.float32, torch.bfloat16)}
    inputs = {t: at.to(t) for t in weights}
    functions: list[Callable[[], object]] = [lambda: packed(at)]
    functions += [lambda t=t: product(inputs[t], weights[t]) for t in weights]
    ours, float32, bfloat16 = median_times(functions)
    print(
        f"{name:34}{ours:10.1f}{float32:10.1f}{bfloat16:10.1f}"
        f"{float32 / ours:9.2f}x{bfloat16 / ours:9.2f}x   {'equal' if equal else 'DIFFERENT'}"
    )


def main() -> int:
    if not torch.cuda.is_available():
        print("this benchmark needs a CUDA device; torch finds none")
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; times in microseconds")
    print(f"{'':34}{'packed':>10}{'float32':>10}{'bfloat16':>10}{'against each':>20}")
    kinds = {"W1A1": ("sign", "sign"), "W2A8": ("twn", "token"), "W1A32": ("sign", None)}
    with torch.no_grad():
        for kind, (weight, inputs) in kinds.items():
            quantizers = {"weight_quantizer": weight, "input_quantizer": inputs}
            for width in (1024, 4096, 8192):
                for batch in (1, 8, 16, 256, 4096):
                    layer = QuantLinear(width, width, bias=False, **quantizers)
                    x = torch.randn(batch, width)
                    row(f"{kind} linear {width}, batch {batch}", layer, x, F.linear)
        for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
            for batch in (1, 64):
                layer = QuantConv2d(channels, channels, 3, padding=1, pad_value=1.0, bias=False)
                x = torch.randn(batch, channels, size, size)
                name = f"W1A1 conv {size}x{size}x{channels}, batch {batch}"
                row(name, layer, x, lambda x, w: F.conv2d(x, w, padding=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
