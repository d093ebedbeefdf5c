"""Speed of packed products against float32 and int8, on one thread unless said otherwise.

    python benchmarks/packed_inference.py [quick] [threads=N]
    python benchmarks/packed_inference.py only=linear,conv,between,bits,network,codes,scaling

Inputs and outputs are float32, packing (or quantizing) the activations is inside the timed
region, preparing the weights is not. The rows "bits in, bits out" are the exception: what a layer
costs inside a network, from packed bits to the packed bits that the next layer reads, thresholds
and padding included, beside the same others, which read and write floats (or bytes). The rows
"codes" are networks of several bits; beside them stand the same packed layers with floats between
them. Candidates
of a row take turns in one process, each
with one call that is not timed before those that are; the table gives medians of CPU time and,
for the ratios, the median of the ratios of single rounds. Counting by looking up can exceed the
peak of xor, population count and add where the processor has no instruction for the second.
onnxruntime joins where it is installed; larq-compute-engine is not measured: its x86 kernels are
reference code ("not optimized for speed in any way").
"""

from __future__ import annotations

import io
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning import deploy, kernels
from ste_lightning.kernels import SIGNS, Codes, Geometry
from ste_lightning.layers import QuantConv2d
from ste_lightning.models.networks import ConvNet

Call = Callable[[], object]
FLOAT, INT8, OURS = "float32", "int8", "packed"


def rounds(calls: dict[str, Call], seconds: float) -> dict[str, list[float]]:
    """Return the CPU seconds of one call, per candidate and round."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.process_time()
        call()
        repeats[name] = max(1, int(2e-3 / max(time.process_time() - start, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[next(iter(found))]) < 5:
        for name, call in calls.items():
            call()  # so that no candidate pays for what the one before left in the caches
            start = time.process_time()
            for _ in range(repeats[name]):
                call()
            found[name].append((time.process_time() - start) / repeats[name])
    return found


def ratio(times: dict[str, list[float]], kind: str) -> str:
    """Return the best candidate of a kind over ours, as a median of rounds."""
    names = [name for name in times if name.startswith(kind)]
    if not names:
        return "-"
    best = min(names, key=lambda name: statistics.median(times[name]))
    pairs = zip(times[best], times[OURS], strict=True)
    return f"{statistics.median(a / b for a, b in pairs):.1f}x"


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


def peak(seconds: float) -> float:
    """Return the speed of xor, population count and add from registers, in 10^9 operations/s."""
    import numba
    from llvmlite import ir
    from numba import types

    from ste_lightning.kernels.compiling import emitted

    word = ir.IntType(32)
    lanes = 16 if kernels.default_format() == "words" else 8
    kind = ir.VectorType(word, lanes)

    @emitted
    def block(typing: object, seed: object, out: object) -> object:
        def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
            data = context.make_array(signature.args[1])(context, builder, args[1]).data
            function = ir.FunctionType(kind, [kind])
            name = f"llvm.ctpop.v{lanes}i32"
            count = builder.module.globals.get(name) or ir.Function(builder.module, function, name)
            place = builder.bitcast(data, kind.as_pointer())
            sums = [ir.Constant(kind, None)] * 8
            loaded = []
            for i in range(8):
                value = builder.load(builder.gep(place, [ir.Constant(ir.IntType(64), i)]))
                value.align = 4
                loaded.append(value)
            mask = ir.Constant(ir.VectorType(word, lanes), [0] * lanes)
            undefined = ir.Constant(kind, ir.Undefined)
            for step in range(8):
                seed = builder.xor(args[0], word(0x9E3779B1 * (step + 1) & 0xFFFFFFFF))
                splat = builder.shuffle_vector(
                    builder.insert_element(undefined, seed, word(0)), undefined, mask
                )
                for i in range(8):
                    mixed = builder.xor(loaded[i], splat)
                    sums[i] = builder.add(sums[i], builder.call(count, [mixed]))
            total = sums[0]
            for other in sums[1:]:
                total = builder.add(total, other)
            return builder.extract_element(total, word(0))

        return types.uint32(types.uint32, types.Array(types.uint32, 1, "C")), code

    @numba.njit
    def run(data, repeats):  # type: ignore[no-untyped-def]
        total = np.uint32(0)
        for i in range(repeats):
            total += block(np.uint32(i), data)
        return total

    data = np.arange(8 * lanes, dtype=np.uint32)
    run(data, 10)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        run(data, 20000)
        best = max(best, 20000 * 64 * 32 * lanes * 2 / (time.process_time() - start))
    return best / 1e9


def row(name: str, operations: float, calls: dict[str, Call], seconds: float, top: float) -> None:
    """Time and print one row."""
    times = rounds(calls, seconds)
    medians = {key: statistics.median(value) for key, value in times.items()}
    speed = operations / medians[OURS] / 1e9
    others = ", ".join(f"{k} {v * 1e6:.0f}" for k, v in medians.items() if k != OURS)
    print(
        f"| {name} | {medians[OURS] * 1e6:.0f} | {speed:.0f} | {speed / top:.0%} | "
        f"{ratio(times, FLOAT)} | {ratio(times, INT8)} | {others} |",
        flush=True,
    )


def linear_rows(seconds: float, top: float) -> None:
    for size in (1024, 4096):
        layer = nn.Linear(size, size, bias=False)
        codes = torch.randint(0, 2, (size, 1, size), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        for rows in (1, 16, 256):
            x = torch.randn(rows, size)
            calls: dict[str, Call] = {
                OURS: lambda x=x, w=w: kernels.linear(x, w),
                f"{FLOAT} torch": lambda x=x, layer=layer: F.linear(x, layer.weight),
                **onnx_calls(layer, x),
                **(int_mm(x, size) if rows > 16 and size == 1024 else {}),
            }
            row(f"linear {size}, batch {rows}", 2 * rows * size**2, calls, seconds, top)


def conv_rows(seconds: float, top: float) -> None:
    for pixels, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        codes = torch.randint(0, 2, (channels, 9, channels), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        geometry = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        x = torch.randn(1, channels, pixels, pixels)
        calls: dict[str, Call] = {
            OURS: lambda x=x, w=w, g=geometry: kernels.convolve(x, w, g),
            f"{FLOAT} torch": lambda x=x, layer=layer: F.conv2d(x, layer.weight, padding=1),
            **onnx_calls(layer, x),
        }
        operations = 2 * 9 * channels**2 * pixels**2
        row(f"conv 3x3 {pixels}x{pixels}x{channels}", operations, calls, seconds, top)


def between_rows(seconds: float, top: float) -> None:
    if kernels.default_format() == "torch":
        return
    from ste_lightning.kernels.chain import Relay, bits_of, pack_images
    from ste_lightning.kernels.site import bit_site, float_site

    for pixels, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        codes = torch.randint(0, 2, (channels, 9, channels), dtype=torch.uint8)
        w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
        geometry, size = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), (pixels, pixels)
        site = bit_site(w, geometry, size, np.zeros(channels, np.int64))
        window = np.arange(pixels**2)[:, None] * site.pitch
        none = np.zeros(site.pitch, np.uint8)
        relay = Relay(float_site(w, geometry, size), window, none, none)
        x = torch.randn(1, channels, pixels, pixels)
        packed = pack_images(x, site)
        calls: dict[str, Call] = {
            OURS: lambda p=packed, s=site, r=relay: r(bits_of(s, p)),
            f"{FLOAT} torch": lambda x=x, layer=layer: F.conv2d(x, layer.weight, padding=1),
            **onnx_calls(layer, x),
        }
        operations = 2 * 9 * channels**2 * pixels**2
        name = f"conv 3x3 {pixels}x{pixels}x{channels}, bits in, bits out"
        row(name, operations, calls, seconds, top)


def bit_rows(seconds: float, top: float) -> None:
    for bits in (2, 4, 8):
        size, rows = 4096, 16
        layer = nn.Linear(size, size, bias=False)
        kind = Codes(bits, 1, -(2 ** (bits - 1)))
        codes = torch.randint(0, 2**bits, (size, 1, size), dtype=torch.uint8)
        w = kernels.prepare(codes, kind, kind, format=kernels.best_format(kind, kind))
        x = torch.randn(rows, size)
        half = 2 ** (bits - 1)
        thresholds = (torch.arange(1 - half, half) / half).view(1, -1) * 2

        def ours(x=x, w=w, thresholds=thresholds):  # type: ignore[no-untyped-def]
            return kernels.linear(kernels.levels(x, thresholds), w)

        calls: dict[str, Call] = {
            OURS: ours,
            f"{FLOAT} torch": lambda x=x, layer=layer: F.linear(x, layer.weight),
            **onnx_calls(layer, x),
        }
        row(f"W{bits}A{bits} linear {size}, batch 16", 2 * rows * size**2, calls, seconds, top)


def depthwise_rows(seconds: float, top: float) -> None:
    for pixels, channels in ((56, 128), (14, 512)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=channels)
        geometry = Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        x = torch.randn(1, channels, pixels, pixels)
        others = {
            f"{FLOAT} torch": lambda x=x, layer=layer: layer(x),
            **onnx_calls(layer, x),
        }
        for bits in (1, 4):
            kind = SIGNS if bits == 1 else Codes(bits, 1, -(2 ** (bits - 1)))
            codes = torch.randint(0, 2**bits, (channels, 9, 1), dtype=torch.uint8)
            best = kernels.best_format(kind, kind, channels, 1, 1)
            w = kernels.prepare(codes, kind, kind, groups=channels, format=best)
            thresholds = torch.linspace(-2, 2, 2**bits - 1).view(1, -1)

            def ours(x=x, w=w, thresholds=thresholds, g=geometry):  # type: ignore[no-untyped-def]
                codes = x if w.inputs.bits == 1 else kernels.levels(x, thresholds, axis=1)
                return kernels.convolve(codes, w, g)

            calls: dict[str, Call] = {OURS: ours, **others}
            name = f"W{bits}A{bits} depthwise 3x3 {pixels}x{pixels}x{channels}"
            row(name, 2 * 9 * channels * pixels**2, calls, seconds, top)


def network(width: int = 128, quantized: bool = True) -> nn.Sequential:
    """Return the CNN for 32x32x3 images; float first and last layer."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    before = width
    for index, after in enumerate((width, 2 * width, 2 * width, 4 * width, 4 * width)):
        layers.append(nn.BatchNorm2d(before))
        if quantized:
            layers.append(QuantConv2d(before, after, 3, padding=1, bias=False, pad_value=-1.0))
        else:
            layers += [nn.ReLU(), nn.Conv2d(before, after, 3, padding=1, bias=False)]
        if index % 2 == 0:
            layers.append(nn.MaxPool2d(2))
        before = after
    layers += [nn.BatchNorm2d(before), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)]
    return nn.Sequential(*layers).eval()


def network_rows(seconds: float, top: float) -> None:
    packed, plain = deploy.pack(network()), network(quantized=False)
    for rows in (1, 64):
        x = torch.randn(rows, 3, 32, 32)
        calls: dict[str, Call] = {
            OURS: lambda x=x: packed(x),
            f"{FLOAT} torch": lambda x=x: plain(x),
            **onnx_calls(plain, x),
        }
        products = (
            128 * 128 * 1024 + 128 * 256 * 256 + 256 * 256 * 256 + 256 * 512 * 64 + 512**2 * 64
        )
        row(f"BNN CNN 32x32x3, batch {rows}", 2 * 9 * products * rows, calls, seconds, top)
    small, twin = ConvNet().eval(), ConvNet(weight_quantizer=None, input_quantizer=None).eval()
    packed_small, x = deploy.pack(small), torch.randn(1, 1, 8, 8)
    row(
        "CNN of the recipe digits_cnn, batch 1",
        2 * 9 * 32 * 64 * 64,
        {OURS: lambda: packed_small(x), f"{FLOAT} torch": lambda: twin(x), **onnx_calls(twin, x)},
        seconds,
        top,
    )
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    stored = sum(t.numel() * t.element_size() for t in packed.state_dict().values())
    print(f"\nThe CNN's tensors: {len(buffer.getvalue()):,} bytes float32, {stored:,} packed.")


def low_bit_network(bits: int, width: int = 64, quantized: bool = True) -> nn.Sequential:
    """Return a CNN for 32x32x3 images with weights and inputs of several bits, steps set."""
    spec = {"map": "lsq", "bits": bits}
    quantizers = {"weight_quantizer": spec, "input_quantizer": {**spec, "signed": False}}
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    before = width
    for index, after in enumerate((width, 2 * width, 2 * width, 4 * width, 4 * width)):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        if quantized:
            layers.append(QuantConv2d(before, after, 3, padding=1, bias=False, **quantizers))
        else:
            layers.append(nn.Conv2d(before, after, 3, padding=1, bias=False))
        if index % 2 == 0:
            layers.append(nn.MaxPool2d(2))
        before = after
    layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    found = nn.Sequential(*layers, nn.Linear(before, 10))
    found(torch.randn(32, 3, 32, 32))
    return found.eval()


def code_rows(seconds: float, top: float) -> None:
    products = 64 * 64 * 1024 + 64 * 128 * 256 + 128 * 128 * 256 + 128 * 256 * 64 + 256**2 * 64
    for bits in (2, 4):
        network, plain = low_bit_network(bits), low_bit_network(bits, quantized=False)
        packed, apart = deploy.pack(network), deploy.pack(network, fold=False)
        for rows in (1, 16):
            x = torch.randn(rows, 3, 32, 32)
            calls: dict[str, Call] = {
                OURS: lambda x=x, packed=packed: packed(x),
                "floats between layers": lambda x=x, apart=apart: apart(x),
                f"{FLOAT} torch": lambda x=x, plain=plain: plain(x),
                **onnx_calls(plain, x),
            }
            name = f"W{bits}A{bits} CNN 32x32x3, codes, batch {rows}"
            row(name, 2 * 9 * products * rows, calls, seconds, top)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scaling(seconds: float, top: float) -> None:
    """Print how much faster two threads are than one, in wall time, taking turns.

    torch's float product beside ours tells what the two processors give: they may be two threads
    of one core, or busy with something else.
    """
    size, rows, threads = 4096, 256, torch.get_num_threads()
    codes = torch.randint(0, 2, (size, 1, size), dtype=torch.uint8)
    w = kernels.prepare(codes, SIGNS, SIGNS, format=kernels.default_format())
    x, weight = torch.randn(rows, size), torch.randn(size, size)
    calls: dict[str, Call] = {
        OURS: lambda: kernels.linear(x, w),
        FLOAT: lambda: F.linear(x, weight),
    }
    times: dict[tuple[str, int], list[float]] = {(n, k): [] for n in calls for k in (1, 2)}
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or len(times[OURS, 1]) < 5:
        for (name, count), found in times.items():
            torch.set_num_threads(count)
            calls[name]()
            start = time.perf_counter()
            calls[name]()
            found.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    print(f"\nlinear {size}, batch {rows}, two threads against one ({_processors()} processors):")
    for name in calls:
        one, two = times[name, 1], times[name, 2]
        median = statistics.median(a / b for a, b in zip(one, two, strict=True))
        print(f"  {name} {median:.2f}x, shortest times {min(one) / min(two):.2f}x")


@torch.no_grad()
def main() -> None:
    """Print the tables."""
    quick = "quick" in sys.argv[1:]
    given = dict(part.split("=") for part in sys.argv[1:] if "=" in part)
    torch.set_num_threads(int(given.get("threads", "1")))
    torch.manual_seed(0)
    seconds = 0.3 if quick else 2.0
    top = peak(seconds)
    print(
        f"{platform.machine()}, format {kernels.default_format()!r}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s); xor + population count + add from registers: "
        f"{top:.0f} GOPS\n"
    )
    print("| case | packed us | GOPS | of peak | best float32 | best int8 | others, us |")
    print("|---|---|---|---|---|---|---|")
    only = given.get("only", "linear,conv,between,bits,depthwise,network,codes,scaling").split(",")
    sections = {
        "linear": linear_rows,
        "conv": conv_rows,
        "between": between_rows,
        "bits": bit_rows,
        "depthwise": depthwise_rows,
        "network": network_rows,
        "codes": code_rows,
        "scaling": scaling,
    }
    for name in only:
        sections[name](seconds, top)


if __name__ == "__main__":
    main()
