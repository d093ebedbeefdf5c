"""Packed products equal the float products exactly, in every format, for random shapes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import (
    SIGNS,
    STEPS,
    Codes,
    Geometry,
    convolve,
    default_format,
    linear,
    prepare,
)
from ste_lightning.kernels.jit.cpu_features import has_avx2

LOOKUPS = ["lookup", "lookup_2x1"] if has_avx2() else []  # elsewhere not compiled
FORMATS = [*LOOKUPS[:1], "bytes", "words", "torch"]
CODES = ["digits", "wide_digits", "int8", "int4", "int2", "int1", *LOOKUPS[1:]]
TERNARY = Codes(2, 1, -1)
WEIGHTS = [SIGNS, STEPS, TERNARY, Codes(3, 2, -7), Codes(8, 1, -128)]


def random_codes(codes: Codes, *shape: int) -> torch.Tensor:
    count = 3 if codes == TERNARY else 2**codes.bits
    return torch.randint(0, count, shape, dtype=torch.uint8)


def values(codes: Codes, x: torch.Tensor) -> torch.Tensor:
    return x.double() * codes.step + codes.offset


def binary(codes: Codes, x: torch.Tensor) -> torch.Tensor:
    return ((x >= 0) if codes.signs else (x > 0)).double() * codes.step + codes.offset


def floats_with_zeros(*shape: int) -> torch.Tensor:
    x = torch.randn(*shape)
    x[torch.rand(*shape) < 0.1] = 0.0
    x[torch.rand(*shape) < 0.1] = -0.0
    return x


@pytest.mark.parametrize("fmt", FORMATS)
@given(
    rows=st.integers(0, 19),
    outputs=st.integers(1, 140),
    channels=st.integers(1, 300),
    inputs=st.sampled_from([SIGNS, STEPS]),
    weights=st.sampled_from(WEIGHTS),
)
@settings(max_examples=30, deadline=None)
def test_linear_of_floats(fmt, rows, outputs, channels, inputs, weights):
    torch.manual_seed(rows + outputs + channels)
    codes = random_codes(weights, outputs, 1, channels)
    x = floats_with_zeros(rows, channels)
    y = linear(x, prepare(codes, inputs, weights, format=fmt))
    expected = binary(inputs, x) @ values(weights, codes[:, 0]).T
    assert torch.equal(y.double(), expected)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("weights", [SIGNS, TERNARY])
def test_more_rows_and_terms_than_one_pass_takes(fmt, weights):
    torch.manual_seed(0)
    codes = random_codes(weights, 70, 1, 2603)
    x, thresholds = floats_with_zeros(301, 2603), torch.randn(2, 2603)
    prepared = prepare(codes, SIGNS, weights, format=fmt)
    expected = binary(SIGNS, x * thresholds[0] + thresholds[1]) @ values(weights, codes[:, 0]).T
    strided = thresholds.T.contiguous().T
    for w in (prepared, copy.deepcopy(prepared)):
        for scale, shift in (thresholds, strided):
            assert torch.equal(linear(x, w, scale, shift).double(), expected)


@pytest.mark.parametrize("fmt", [*FORMATS, *CODES])
@given(
    rows=st.integers(1, 40),
    outputs=st.integers(1, 70),
    channels=st.integers(1, 100),
    bits=st.integers(1, 8),
    offset=st.integers(-128, 0),
    weights=st.sampled_from(WEIGHTS),
)
@settings(max_examples=30, deadline=None)
def test_linear_of_codes(fmt, rows, outputs, channels, bits, offset, weights):
    torch.manual_seed(rows + outputs + channels)
    inputs = Codes(bits, 1, offset)
    codes = random_codes(weights, outputs, 1, channels)
    x = random_codes(inputs, rows, channels)
    y = linear(x, prepare(codes, inputs, weights, format=fmt))
    assert torch.equal(y.double(), values(inputs, x) @ values(weights, codes[:, 0]).T)


@pytest.mark.parametrize("fmt", FORMATS)
@given(
    dims=st.integers(1, 3),
    images=st.integers(0, 3),
    groups=st.sampled_from([1, 2, 5]),
    channels=st.integers(1, 40),
    outputs=st.integers(1, 5),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(5, 9),
    pad_value=st.sampled_from([-1.0, 0.0, 1.0]),
    inputs=st.sampled_from([SIGNS, STEPS]),
    weights=st.sampled_from([SIGNS, TERNARY]),
    last=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_convolution(
    fmt, dims, images, groups, channels, outputs, kernel, stride, padding, dilation, size,
    pad_value, inputs, weights, last,
):  # fmt: skip
    assume(size - 1 + 2 * padding > dilation * (kernel - 1))
    torch.manual_seed(channels + outputs)
    codes = random_codes(weights, groups * outputs, kernel**dims, channels)
    shape = [size, size + 1, size - 1][:dims]
    x = floats_with_zeros(images, groups * channels, *shape)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    geometry = Geometry(
        (kernel,) * dims, (stride,) * dims, ((padding, padding),) * dims, (dilation,) * dims
    )
    prepared = prepare(codes, inputs, weights, groups=groups, pad_value=pad_value, format=fmt)
    y = convolve(x, prepared, geometry)

    w = values(weights, codes).movedim(1, 2).reshape(-1, channels, *(kernel,) * dims)
    padded = F.pad(binary(inputs, x), [padding] * (2 * dims), value=pad_value)
    conv = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    expected = conv(padded, w, None, stride, 0, dilation, groups)
    assert torch.equal(y.double(), expected)


@given(
    images=st.integers(0, 3),
    groups=st.integers(1, 70),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.sampled_from([(5, 7), (6, 8), (3, 3)]),
    pad_value=st.sampled_from([-1.0, 0.0, 1.0, 2.5]),
    inputs=st.sampled_from([SIGNS, STEPS, Codes(2, 1, 0), Codes(4, 1, -8), Codes(8, 1, -128)]),
    weights=st.sampled_from([*WEIGHTS, Codes(4, 1, -8), Codes(8, 1, 0)]),
    floats=st.booleans(),
    affine=st.booleans(),
    last=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_convolution_of_groups_with_few_channels(
    images, groups, channels, outputs, kernel, stride, padding, dilation, size, pad_value, inputs,
    weights, floats, affine, last,
):  # fmt: skip
    assume(min(size) - 1 + 2 * padding > dilation * (max(kernel) - 1))
    torch.manual_seed(groups + 10 * channels + outputs)
    floats = floats and inputs in (SIGNS, STEPS)
    codes = random_codes(weights, groups * outputs, kernel[0] * kernel[1], channels)
    shape = (images, groups * channels, *size)
    scale = shift = None
    if floats:
        x = floats_with_zeros(*shape)
        q = x
        if affine:
            scale = torch.randint(0, 2, shape[1:2]) * 2.0 - 1
            shift = torch.randint(-1, 2, shape[1:2]) / 2
            q = x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
        q = binary(inputs, q)
    else:
        x = random_codes(inputs, *shape)
        q = values(inputs, x)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    geometry = Geometry(kernel, (stride,) * 2, ((padding, padding),) * 2, (dilation,) * 2)
    w = prepare(codes, inputs, weights, groups=groups, pad_value=pad_value, format="depthwise")
    y = convolve(x, w, geometry, scale, shift)

    padded = F.pad(q, [padding] * 4, value=pad_value)
    filters = values(weights, codes).movedim(1, 2).reshape(-1, channels, *kernel)
    expected = F.conv2d(padded, filters, None, stride, 0, dilation, groups)
    assert torch.equal(y.double(), expected)


@pytest.mark.skipif(default_format() == "torch", reason="numba is missing")
@given(
    images=st.integers(1, 2),
    channels=st.integers(2, 40),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    dilation=st.integers(1, 3),
    size=st.sampled_from([(19, 18), (40, 9), (12, 33), (6, 70)]),
    pad_value=st.sampled_from([-1.0, 0.0, 1.0, 2.5]),
    inputs=st.sampled_from([SIGNS, STEPS, Codes(4, 1, -8), Codes(8, 1, -128)]),
    weights=st.sampled_from([SIGNS, TERNARY, Codes(4, 1, -8), Codes(8, 1, -128)]),
    affine=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_depthwise_convolution_of_images_stored_channel_by_channel(
    images, channels, kernel, stride, padding, dilation, size, pad_value, inputs, weights, affine
):
    assume(dilation * (max(kernel) - 1) < min(size))
    torch.manual_seed(channels + size[0])
    codes = random_codes(weights, channels, kernel[0] * kernel[1], 1)
    scale, shift = torch.rand(channels) + 0.5, torch.randn(channels)
    factor = offset = None
    if inputs.bits == 1:
        x = floats_with_zeros(images, channels, *size)
        q = x
        if affine:
            factor, offset = torch.randn(channels), torch.randn(channels)
            q = x * factor.view(-1, 1, 1) + offset.view(-1, 1, 1)
        q = binary(inputs, q)
    else:
        x = random_codes(inputs, images, channels, *size)
        q = values(inputs, x)
    w = prepare(
        *(codes, inputs, weights),
        groups=channels,
        scale=scale,
        shift=shift,
        pad_value=pad_value,
        format="depthwise",
    )
    geometry = Geometry(kernel, stride, padding, (dilation, dilation))
    y = convolve(x, w, geometry, factor, offset)

    padded = F.pad(q, [*padding[1], *padding[0]], value=pad_value)
    filters = values(weights, codes).movedim(1, 2).reshape(-1, 1, *kernel)
    sums = F.conv2d(padded, filters, None, stride, 0, dilation, channels).float()
    assert torch.equal(y, sums * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))


@pytest.mark.parametrize("fmt", ["lookup", "torch", *CODES])
@pytest.mark.parametrize("bits", [(2, 2), (4, 4), (8, 8), (8, 5), (3, 8)])
def test_convolution_of_codes(fmt, bits):
    torch.manual_seed(0)
    inputs, weights = Codes(bits[0], 1, -1), Codes(bits[1], 1, -(2 ** (bits[1] - 1)))
    codes = random_codes(weights, 2 * 40, 6, 9)
    x = random_codes(inputs, 3, 18, 6, 7)
    geometry = Geometry((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 1))
    w = prepare(codes, inputs, weights, groups=2, pad_value=0.0, format=fmt)
    padded = F.pad(values(inputs, x), [0, 1, 1, 1])
    kernel = values(weights, codes).movedim(1, 2).reshape(80, 9, 3, 2)
    expected = F.conv2d(padded, kernel, None, (1, 2), groups=2)
    assert torch.equal(convolve(x, w, geometry).double(), expected)


@pytest.mark.parametrize("fmt", FORMATS)
def test_thresholds_before_the_sign_and_scale_after_the_sum(fmt):
    torch.manual_seed(0)
    codes = random_codes(SIGNS, 70, 9, 66)
    x = torch.randint(-20, 20, (3, 66, 6, 7)).float()
    scale = torch.randint(0, 2, (66,)) * 2.0 - 1
    shift = torch.randint(-9, 9, (66,)) + 0.5
    factor, offset = torch.rand(70), torch.randn(70)
    prepared = prepare(codes, SIGNS, SIGNS, scale=factor, shift=offset, format=fmt)
    geometry = Geometry((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    signs = binary(SIGNS, x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))
    w = values(SIGNS, codes).movedim(1, 2).reshape(70, 66, 3, 3)
    integers = F.conv2d(signs, w).float()
    expected = integers * factor.view(-1, 1, 1) + offset.view(-1, 1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = convolve(x.contiguous(memory_format=layout), prepared, geometry, scale, shift)
        assert torch.equal(y, expected)


@pytest.mark.parametrize("fmt", FORMATS)
def test_long_sums_and_not_a_number(fmt):
    torch.manual_seed(0)
    codes = random_codes(SIGNS, 3, 1, 70_000)
    x = torch.randn(2, 70_000)
    x[0, 5] = float("nan")
    x[1, 7] = float("inf")
    for inputs in (SIGNS, STEPS):
        signs = (~(x < 0) if inputs.signs else x > 0).double() * inputs.step + inputs.offset
        y = linear(x, prepare(codes, inputs, SIGNS, format=fmt))
        assert torch.equal(y.double(), signs @ values(SIGNS, codes[:, 0]).T)


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="codes"):
        prepare(torch.full((2, 1, 3), 2, dtype=torch.uint8), SIGNS, SIGNS, format="torch")
    with pytest.raises(ConfigurationError, match="groups"):
        prepare(torch.zeros(3, 1, 3, dtype=torch.uint8), SIGNS, SIGNS, groups=2, format="torch")
    with pytest.raises(ConfigurationError, match="bits"):
        Codes(9, 1, 0)
    with pytest.raises(ConfigurationError, match="overflow"):
        prepare(
            torch.zeros(1, 1, 70_000, dtype=torch.uint8),
            Codes(8, 1, 0),
            Codes(8, 1, 0),
            format="torch",
        )


def test_torch_is_exact_for_sums_that_float32_cannot_hold():
    torch.manual_seed(0)
    kind = Codes(8, 1, 0)
    x, codes = (torch.randint(200, 256, (4, 1, 1001), dtype=torch.uint8) for _ in range(2))
    w = prepare(codes, kind, kind, format="torch")
    y = linear(x[:, 0], w)
    expected = (x[:, 0].double() @ codes[:, 0].double().T).float()
    assert torch.equal(y, expected)
    odd = x[:, 0].T.reshape(1, 1001, 2, 2)
    y = convolve(odd, w, Geometry((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)))
    assert torch.equal(y[0].flatten(1), expected.T)
