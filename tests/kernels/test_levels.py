"""Codes from thresholds equal the number of thresholds reached, in every storage order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ste_lightning.kernels import levels


def plain(x, thresholds, factor, axis):
    last = x.movedim(axis, -1).unsqueeze(-1)
    if factor is not None:
        last = last * factor.view(-1, 1)
    return (~(last < thresholds)).sum(-1).movedim(-1, axis).to(torch.uint8)


@given(
    count=st.sampled_from([1, 3, 7, 24, 25, 100, 255]),
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    axis=st.integers(0, 3),
    own=st.booleans(),
    last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=80, deadline=None)
def test_codes_count_the_thresholds_reached(count, shape, axis, own, last, dtype):
    torch.manual_seed(count + sum(shape))
    axis %= len(shape)
    x = torch.randint(-40, 40, shape).to(dtype) / 8
    if last:
        x = x.movedim(axis, -1).contiguous().movedim(-1, axis)
    thresholds = torch.randint(-40, 40, (shape[axis] if own else 1, count)).sort(-1).values / 8
    factor = torch.randint(0, 2, (shape[axis],)) * 2.0 - 1 if own else None
    found = levels(x, thresholds, factor, axis)
    assert found.dtype == torch.uint8
    assert torch.equal(found, plain(x, thresholds.to(dtype), factor, axis))


@pytest.mark.parametrize("count", [3, 255])
def test_numbers_at_the_ends(count):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0] * 20)
    thresholds = torch.linspace(0, 1, count).view(1, -1)
    assert levels(x, thresholds).view(20, 5)[7].tolist() == [count, count, 0, 1, 1]


def test_one_row_longer_than_a_block():
    x = torch.randn(3, 5000)
    thresholds = torch.linspace(-1, 1, 15).view(1, -1)
    assert torch.equal(levels(x, thresholds), plain(x, thresholds, None, 1))


@pytest.mark.parametrize("count", [9, 15, 255])
@pytest.mark.parametrize("moved", [0.0, 0.3, 0.7])  # of a step: the last is far from equal steps
@pytest.mark.parametrize("scale", [1e-30, 0.1, 3e35])
def test_numbers_next_to_almost_equally_spaced_thresholds(count, moved, scale):
    torch.manual_seed(count)
    places = torch.arange(count) + moved * (torch.rand(count) - 0.5) * 2 - count / 3
    thresholds = (places * scale).sort().values
    around = [thresholds.nextafter(torch.tensor(end)) for end in (-float("inf"), float("inf"))]
    ends = torch.tensor([float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38])
    x = torch.cat([thresholds, *around, torch.randn(1000) * count * scale, ends])
    assert torch.equal(levels(x, thresholds[None]), plain(x, thresholds[None], None, 0))
    own = torch.stack([thresholds, thresholds.neg().flip(0), thresholds / 2])
    factor = torch.tensor([1.0, -1.0, 0.5])
    x = torch.stack([x, -x, x.flip(0)])
    for axis, images in ((0, x), (1, x.T)):
        assert torch.equal(levels(images, own, factor, axis), plain(images, own, factor, axis))
