"""Memory that a thread keeps serves every mode, and one thread alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ste_lightning.functional import scratch
from ste_lightning.functional.scratch import scratch_like


def test_memory_is_used_again_and_grows() -> None:
    small, large = torch.randn(3, 5), torch.randn(70, 41).half()
    first = scratch_like(small)
    assert (first.shape, first.dtype) == (small.shape, small.dtype)
    assert scratch_like(small).data_ptr() == first.data_ptr()
    grown = scratch_like(large.t())
    assert grown.shape == (41, 70)
    assert grown.is_contiguous()
    assert scratch_like(small).data_ptr() == grown.data_ptr()


def test_threads_do_not_share_it() -> None:
    x = torch.randn(100)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scratch_like, x).result()
    assert other.data_ptr() != scratch_like(x).data_ptr()


def test_memory_made_for_inference_serves_training() -> None:
    x = torch.randn(9)
    with ThreadPoolExecutor(1) as pool:  # a thread that has no memory yet

        def infer() -> None:
            with torch.inference_mode():
                scratch_like(x)

        pool.submit(infer).result()
        pool.submit(lambda: scratch_like(x).copy_(x).mul_(2)).result()


def test_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_MOST", 16)
    x = torch.randn(9)
    first, second = scratch_like(x), scratch_like(x)
    assert first.data_ptr() != second.data_ptr()
