"""The table of kernels: what it chooses, how it is forced, and that every row is exact."""

import dataclasses
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import (
    SIGNS,
    Codes,
    Geometry,
    convolve,
    default_format,
    dispatch,
    linear,
    prepare,
    reference,
)
from ste_lightning.kernels.__main__ import main
from ste_lightning.kernels.dispatch import KERNELS, Cpu, choose, cpu_named, host

W2, W4, W8 = (Codes(bits, 1, -(2 ** (bits - 1))) for bits in (2, 4, 8))
ZEN4, HASWELL = Cpu("znver4", "words", 512), Cpu("haswell", "lookup")
SAPPHIRE = Cpu("sapphirerapids", "words", 512, True)
CONVOLUTION = Geometry((3, 3), (1, 2), ((1, 1), (0, 1)), (1, 1))


def check_every_kernel():
    """Compare every row that this processor can take with plain torch, as floats and as codes."""
    torch.manual_seed(0)
    checked = []
    for kernel in KERNELS:
        if kernel.operator == "gradient":
            continue  # these multiply floats: tests/functional compare them
        for inputs in (SIGNS, Codes(3, 1, -4), Codes(8, 1, -128)):
            for weights in (SIGNS, Codes(2, 1, -1), W4, W8):
                if kernel.cost(inputs, weights, host(), 16) is None:
                    continue
                if kernel.operator == "gemm":
                    check_linear(kernel.format, inputs, weights)
                check_convolution(kernel, inputs, weights)
                checked.append(kernel.name)
    return checked


def random_codes(kind, *shape):
    return torch.randint(0, 2**kind.bits, shape, dtype=torch.uint8)


def check_linear(fmt, inputs, weights):
    for rows, outputs, channels in (
        (1, 33, 40),
        (3, 70, 68),
        (13, 32, 129),
        (17, 5, 64),
        (37, 40, 600),
    ):
        codes, x = random_codes(weights, outputs, 1, channels), random_codes(inputs, rows, channels)
        w = prepare(codes, inputs, weights, format=fmt)
        expected = reference.linear(x, inputs, codes, weights)
        assert torch.equal(linear(x, w).double(), expected), (fmt, inputs, weights, rows)
        if fmt in ("torch", "depthwise"):
            continue
        from ste_lightning.kernels.gemm.code_calls import code_site, codes_of, pack_for
        from ste_lightning.kernels.layout.call_record import PIXEL

        least = torch.stack([expected[0].long() + k for k in (-9, 0, 9)])
        falling = torch.arange(outputs) % 2 == 1
        site = code_site(w, PIXEL, (1,), least.numpy(), falling.numpy(), 1 << 24)
        found = codes_of(site, pack_for(x[:, None].contiguous(), site)).view(rows, outputs)
        assert torch.equal(found, reference.codes_of_sums(expected, least, falling)), (fmt, rows)


def check_convolution(kernel, inputs, weights):
    if kernel.operator == "depthwise":
        for groups in (40, 48):
            check_grouped(kernel, inputs, weights, groups, 1, 1)
    else:
        check_grouped(kernel, inputs, weights, 2, 9, 35)


def check_grouped(kernel, inputs, weights, groups, channels, outputs):
    codes = random_codes(weights, groups * outputs, 9, channels)
    x = random_codes(inputs, 2, groups * channels, 7, 6)
    w = prepare(codes, inputs, weights, groups=groups, pad_value=1.0, format=kernel.format)
    expected = reference.convolve(x, inputs, codes, weights, CONVOLUTION, groups, 1.0)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(convolve(given, w, CONVOLUTION).double(), expected), (kernel, inputs)


def test_every_kernel_of_this_processor_is_exact():
    checked = check_every_kernel()
    assert "gemm_float_torch" in checked
    assert default_format() == "torch" or "depthwise_words" in checked


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
def test_every_kernel_of_older_processors_is_exact(cpu, tmp_path):
    if host().dot_bits == 0:
        pytest.skip("this processor may not run code for that one, or is that one")
    code = "import test_dispatch; print(len(test_dispatch.check_every_kernel()))"
    environment = {
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 0


@pytest.mark.parametrize(
    ("cpu", "weights", "inputs", "name"),
    [
        (ZEN4, SIGNS, SIGNS, "gemm_bits_popcount_avx512"),
        (ZEN4, W2, W2, "gemm_bits_popcount_avx512"),
        (ZEN4, W4, W2, "gemm_a8w4_vnni"),
        (ZEN4, W4, W8, "gemm_a8w4_vnni"),
        (ZEN4, Codes(3, 1, -4), W8, "gemm_a8w4_vnni"),
        (ZEN4, SIGNS, W8, "gemm_a8w1_vnni"),
        (ZEN4, W8, W8, "gemm_a8w8_vnni"),
        (SAPPHIRE, SIGNS, SIGNS, "gemm_bits_popcount_avx512"),
        (SAPPHIRE, W2, W2, "gemm_a8w2_amx"),
        (SAPPHIRE, W8, W8, "gemm_a8w8_amx"),
        (HASWELL, SIGNS, SIGNS, "gemm_bits_lut_avx2"),
        (HASWELL, SIGNS, W2, "gemm_a2w1_lut_avx2"),
        (HASWELL, W4, W4, "gemm_a8w8_maddubs"),
        (HASWELL, W8, W8, "gemm_a16w16_madd"),
        (Cpu("without numba", ""), W4, W4, "gemm_float_torch"),
    ],
)
def test_the_cheapest_exact_kernel_is_chosen(cpu, weights, inputs, name, monkeypatch):
    monkeypatch.delenv("STE_KERNEL", raising=False)
    assert choose("gemm", inputs, weights, cpu).name == name


def test_every_row_can_be_forced_where_it_can_be_taken(monkeypatch, caplog):
    for kernel in KERNELS:
        monkeypatch.setenv("STE_KERNEL", kernel.name)
        for cpu in (ZEN4, HASWELL):
            taken = kernel.cost(SIGNS, SIGNS, cpu, 16) is not None
            assert (choose(kernel.operator, SIGNS, SIGNS, cpu) is kernel) or not taken
    monkeypatch.setenv("STE_KERNEL", "gemm_bits_lut_avx2")
    with caplog.at_level(logging.DEBUG):
        assert choose("gemm", W8, W8, ZEN4).name == "gemm_a8w8_vnni"
    assert "the table decides" in caplog.text
    assert "W8A8 gemm on znver4: gemm_a8w8_vnni" in caplog.text
    monkeypatch.setenv("STE_KERNEL", "fastest")
    with pytest.raises(ConfigurationError, match=r"STE_KERNEL.*gemm_float_torch"):
        choose("gemm", W8, W8)
    monkeypatch.delenv("STE_KERNEL")
    with pytest.raises(ConfigurationError, match="operator"):
        choose("pooling", W8, W8)


def test_a_new_kernel_is_one_row(monkeypatch):
    """As docs/kernels.md says: its row is chosen, and the test of every row takes it."""
    row = dataclasses.replace(
        next(kernel for kernel in KERNELS if kernel.format == "torch"),
        name="gemm_a8w8_new",
        cost=lambda inputs, weights, cpu, rows: 0.1 if weights.bits == 8 else None,
    )
    monkeypatch.delenv("STE_KERNEL", raising=False)
    monkeypatch.setattr(dispatch, "KERNELS", (*KERNELS, row))
    assert dispatch.choose("gemm", W8, W8) is row
    assert dispatch.best_format(W8, W8) == row.format
    check_linear(row.format, W8, W8)


def test_the_matrix_is_printed(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(kernel.name in printed for kernel in KERNELS)
    if default_format() != "torch" and os.uname().machine == "x86_64":
        main(["--cpu", "haswell"])
        printed = capsys.readouterr().out
        assert "haswell: counts by lookup, dot products of 0 bits, no tiles; 16 rows" in printed
        lines = [line for line in printed.splitlines() if line.startswith("W8 ")]
        assert len(lines) == 2
        assert cpu_named("icelake-server") == Cpu("icelake-server", "words", 512)
        assert cpu_named("sapphirerapids") == dataclasses.replace(SAPPHIRE)
        assert cpu_named("alderlake").dot_bits == 256


def test_the_reference_counts_thresholds():
    y = torch.tensor([[0.0, 5.0], [2.0, 1.0]])
    least, falling = torch.tensor([[1, 1], [2, 4]]), torch.tensor([False, True])
    assert reference.codes_of_sums(y, least, falling).tolist() == [[0, 0], [2, 1]]
    assert np.array_equal(reference.values(torch.tensor([0, 1]), SIGNS), [-1, 1])
