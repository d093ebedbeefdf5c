"""The GPU's kernels: by Triton's interpreter here, compiled for a GPU, and on one where it is.

All but the last test need Triton alone (``pip install triton``), no GPU.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantEmbedding, QuantLinear, QuantMultiheadAttention

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def run(code, tmp_path, interpret):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    else:
        environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


MATRICES = """
    import torch
    from ste_lightning.deploy.layers.bit_planes import to_bits
    from ste_lightning.kernels import Codes, gpu

    torch.manual_seed(0)
    # sign, step, ternary, 3 bits with steps of two, 4 bits, 8 bits
    kinds = [(1, 2, -1), (1, 1, 0), (2, 1, -1), (3, 2, -7), (4, 1, -8), (8, 1, 0)]
    # rows, outputs, columns: one row, few, many; whole words and not; tiles with rims
    sizes = [(1, 5, 32), (3, 17, 70), (8, 33, 289), (9, 3, 7), (40, 65, 130)]
    for bits, step, offset in kinds:
        for rows, outputs, columns in sizes:
            codes = torch.randint(0, 2**bits, (outputs, columns), dtype=torch.uint8)
            w = gpu.on_device(to_bits(codes, bits), codes, Codes(bits, step, offset))
            scale, shift = torch.randn(outputs), torch.randn(outputs)
            for center in (0, 128):
                x = torch.randint(-128, 128, (rows, columns), dtype=torch.int8)
                sums = (x.long() + center) @ (codes.long() * step + offset).T
                got = gpu.multiply(x, w, center, scale, shift)
                assert torch.equal(got, sums.float() * scale + shift), (bits, rows, outputs)
            if rows <= gpu.FEW_ROWS:
                x = torch.randn(rows, columns)
                sums = x @ (codes.float() * step + offset).T
                got = gpu.multiply_floats(x, w, scale, shift)
                assert torch.allclose(got, sums * scale + shift, rtol=1e-4, atol=1e-2)
    assert gpu.multiply(x[:0].to(torch.int8), w, 0, scale, shift).shape == (0, outputs)
"""

LAYERS = """
    import torch
    from torch import nn
    from ste_lightning import deploy, kernels
    from ste_lightning.deploy.layers.torch_and_gpu import Placed, computed, placed
    from ste_lightning.deploy.layers.bit_planes import to_codes
    from ste_lightning.kernels import gpu
    from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantLinear

    torch.manual_seed(0)
    u8, lsq = {"map": "uniform", "bits": 8}, {"map": "lsq", "bits": 2, "signed": False}
    cases = [
        (QuantLinear(70, 9), (2, 3, 70)),
        (QuantLinear(64, 20, weight_quantizer="twn", input_quantizer=lsq), (20, 64)),
        (QuantLinear(40, 9, weight_quantizer="bitnet", input_quantizer="token"), (3, 40)),
        (QuantLinear(33, 9, weight_quantizer=u8, input_quantizer=u8), (17, 33)),
        (QuantConv2d(5, 7, (3, 2), (2, 1), (1, 2), (1, 2)), (2, 5, 8, 7)),
        (QuantConv2d(8, 6, 3, padding=1, pad_value=-1.0), (2, 8, 4, 5)),
        (QuantConv2d(4, 6, 3, padding=1, weight_quantizer="twn", input_quantizer=u8), (1, 4, 4, 5)),
        (QuantConv2d(4, 6, 3, padding=1, pad_value=0.5), (1, 4, 4, 5)),
        (QuantConv1d(4, 6, 3, padding="same", input_quantizer="step"), (3, 4, 9)),
        (QuantLinear(40, 9, input_quantizer=None), (3, 40)),
    ]
    for layer, shape in cases:
        layer.train()
        layer(torch.randn(16, *shape[1:]))
        packed = deploy.pack(nn.Sequential(layer.eval())).layer("0")
        x = torch.randn(shape)
        expected = packed(x)
        codes = to_codes(packed.weight_bits, packed.weight_codes.bits, packed.shape).flatten(1)
        words = gpu.on_device(packed.weight_bits, codes, packed.weight_codes)
        plain = placed(packed)
        packed._derived["placed"] = Placed(words, plain.scale, plain.shift, None, None)
        got = computed(packed, x)
        if packed.input.codes is None:
            assert torch.allclose(got, expected, atol=1e-4), layer
        else:
            assert torch.equal(got, expected), layer
"""

COMPILED = """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from ste_lightning.kernels.gpu import triton_kernels

    def assembly(kernel, planes, **constants):
        constants["PLANES"] = planes
        pointers = {"x": "*i8", "data": "*i32" if planes else "*i8", "sums": "*i32"}
        pointers |= {"scale": "*fp32", "shift": "*fp32", "out": "*fp32"}
        signature = {
            name: "constexpr" if name in constants else pointers.get(name, "i32")
            for name in kernel.arg_names
        }
        source = ASTSource(kernel, signature, constants)
        options = {"enable_fp_fusion": False, "num_warps": 4}
        return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]

    for planes in (1, 2, 0):
        many = assembly(triton_kernels.many_rows, planes, ROWS=64, OUTPUTS=64, WORDS=2)
        few = assembly(triton_kernels.single_rows, planes, FLOATS=False, OUTPUTS=16, WORDS=8)
        assert "s32.s8.s8.s32" in many  # the tensor cores' product of bytes
        assert "fma.rn.f32" not in many + few  # rounds once where the CPU rounds twice
"""


@needs_triton
@pytest.mark.parametrize("code", [MATRICES, LAYERS], ids=["matrices", "layers"])
def test_interpreted_kernels_equal_integers(code, tmp_path):
    run(code, tmp_path, interpret=True)


@needs_triton
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler runs on Linux")
def test_kernels_compile_for_tensor_cores(tmp_path):
    run(COMPILED, tmp_path, interpret=False)


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = QuantEmbedding(20, 32)
        self.attention = QuantMultiheadAttention(32, 4, batch_first=True)
        self.conv = QuantConv2d(1, 8, 3, padding=1, weight_quantizer="twn", input_quantizer="step")
        self.norm = nn.BatchNorm2d(8)
        self.grouped = QuantConv2d(8, 8, 3, groups=4)
        self.head = QuantLinear(8, 5, input_quantizer="token")

    def forward(self, x):
        x = self.table(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.grouped(self.norm(self.conv(x.unsqueeze(1))))
        return self.head(x.mean((2, 3)))


def everything():
    torch.manual_seed(0)
    return deploy.pack(Everything().eval()), torch.randint(0, 20, (3, 6))


def test_packed_networks_move_to_a_device():
    packed, x = everything()
    y = packed.to("meta")(x.to("meta"))  # a device without values: no step may look at one
    assert (y.shape, y.device.type) == ((3, 5), "meta")


def test_input_and_weights_on_two_devices_are_refused():
    packed, _ = everything()
    with pytest.raises(ConfigurationError, match="is on cpu"):
        packed.layer("conv")(torch.zeros(1, 1, 4, 4, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_equal_on_a_gpu(tmp_path):
    packed, x = everything()
    expected = packed(x)
    deploy.save(packed, tmp_path / "cpu")
    packed.to("cuda")
    assert torch.allclose(packed(x.cuda()).cpu(), expected, atol=1e-4)
    deploy.save(packed, tmp_path / "cuda")
    assert (tmp_path / "cpu").read_bytes() == (tmp_path / "cuda").read_bytes()
    assert torch.equal(packed.to("cpu")(x), expected)
    for rows in (1, 5, 300):  # with and without tensor cores: the same bits
        for inputs in ("sign", "token", {"map": "lsq", "bits": 2}):
            layer = QuantLinear(300, 70, input_quantizer=inputs)
            z = torch.randn(rows, 300)
            layer(z)
            packed = deploy.pack(nn.Sequential(layer.eval()))
            expected = packed(z)
            assert torch.equal(packed.to("cuda")(z.cuda()).cpu(), expected)
