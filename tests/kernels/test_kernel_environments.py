"""The kernels on other processors, without a cache, without numba, in threads and children."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from ste_lightning.kernels import SIGNS, default_format, linear, prepare

CHECK = """
import torch
from ste_lightning.kernels import SIGNS, STEPS, Codes, Geometry
from ste_lightning.kernels import best_format, convolve, default_format, linear, prepare
torch.manual_seed(0)
print(default_format())
for inputs in (SIGNS, STEPS):
    codes = torch.randint(0, 2, (70, 1, 300), dtype=torch.uint8)
    x = torch.randn(5, 300)
    bits = (x >= 0) if inputs.signs else (x > 0)
    w = prepare(codes, inputs, SIGNS, format=default_format())
    expected = (bits.double() * inputs.step + inputs.offset) @ (codes[:, 0].double() * 2 - 1).T
    assert torch.equal(linear(x, w).double(), expected)
geometry = Geometry((3,), (1,), ((1, 1),), (1,))
for bits in (2, 4, 8):
    kind = Codes(bits, 1, -(2 ** (bits - 1)))
    codes = torch.randint(0, 2**bits, (70, 1, 300), dtype=torch.uint8)
    x = torch.randint(0, 2**bits, (5, 300), dtype=torch.uint8)
    w = prepare(codes, kind, kind, format=best_format(kind, kind))
    expected = (x.double() + kind.offset) @ (codes[:, 0].double() + kind.offset).T
    assert torch.equal(linear(x, w).double(), expected)
    codes = torch.randint(0, 2**bits, (40, 3, 1), dtype=torch.uint8)
    x = torch.randint(0, 2**bits, (2, 40, 9), dtype=torch.uint8)
    best = best_format(kind, kind, 40, 1, 1)
    w = prepare(codes, kind, kind, groups=40, pad_value=0.0, format=best)
    filters = codes.double().movedim(1, 2) + kind.offset
    expected = torch.nn.functional.conv1d(x.double() + kind.offset, filters, padding=1, groups=40)
    assert torch.equal(convolve(x, w, geometry).double(), expected)
"""


def run(code, **environment):
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.split()


@pytest.mark.skipif(default_format() != "lookup", reason="needs a processor with AVX2")
def test_code_restricted_to_the_oldest_processor(tmp_path):
    """Without AVX2 the code generator is asked for, and gets, plain vector code."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run(CHECK, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="", **cache) == ["bytes"]


@pytest.mark.parametrize(
    ("cpu", "expected"), [("haswell", "lookup"), ("icelake-server", "words"), ("nehalem", "bytes")]
)
def test_formats_follow_the_code_generator(cpu, expected, monkeypatch):
    """Only the choice: code for these processors may not run here."""
    if default_format() == "torch" or os.uname().machine != "x86_64":
        pytest.skip("asks for x86 processors")
    from numba.core import config

    from ste_lightning.kernels.jit import cpu_features

    monkeypatch.setattr(config, "CPU_NAME", cpu)
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    assert cpu_features.chosen_format.__wrapped__() == expected


def test_without_numba():
    code = "import sys; sys.modules['numba'] = None\n" + CHECK
    code = code.replace("import torch\n", "import torch\nimport importlib.util as u\n", 1).replace(
        "from ste", "u.find_spec = lambda name: None\nfrom ste", 1
    )
    assert run(code) == ["torch"]


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 16, 8), (3, 19, 21), (1, 7, 40), (0, 8, 8)])
def test_images_are_moved_to_channels_first(shape):
    pytest.importorskip("numba")
    from ste_lightning.kernels.pack.transpose import to_planar

    x = torch.randn(shape)
    y = torch.empty(shape[0], shape[2], shape[1])
    to_planar(x.data_ptr(), y.data_ptr(), *shape)
    assert torch.equal(y, x.transpose(1, 2))


def test_threads_share_weights_and_agree():
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (130, 1, 512), dtype=torch.uint8)
    w = prepare(codes, SIGNS, SIGNS, format=default_format())
    x = torch.randn(8, 64, 512)
    expected = [linear(part, w) for part in x]
    wrong = []

    def work(index):
        for _ in range(20):
            wrong.extend([index] * (not torch.equal(linear(x[index], w), expected[index])))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_several_threads_give_the_same_bits():
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (520, 1, 2048), dtype=torch.uint8)
    w = prepare(codes, SIGNS, SIGNS, format=default_format())
    many, few = torch.randn(1030, 2048), torch.randn(40, 2048)
    expected = linear(many, w), linear(few, w)
    try:
        torch.set_num_threads(3)
        assert torch.equal(linear(many, w), expected[0])
        assert torch.equal(linear(few, w), expected[1])
    finally:
        torch.set_num_threads(1)
