"""Memory that a thread lends has one holder at a time, and a bound."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch

from ste_lightning.functional.saved import workspace
from ste_lightning.functional.saved.workspace import borrow_like

T = TypeVar("T")


def elsewhere(work: Callable[[], T]) -> T:
    """Call in a thread that has no memory yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_memory_is_lent_again_when_its_holder_is_done() -> None:
    def work() -> None:
        small, large = torch.randn(3, 50), torch.randn(41, 5).half()
        first, second = borrow_like(small), borrow_like(small)
        assert (first.tensor.shape, first.tensor.dtype) == (small.shape, small.dtype)
        address = first.tensor.data_ptr()
        assert second.tensor.data_ptr() != address
        del first
        other = borrow_like(large.t())  # fits
        assert other.tensor.data_ptr() == address
        assert other.tensor.shape == (5, 41)
        assert other.tensor.is_contiguous()
        third = borrow_like(small)
        assert third.tensor.data_ptr() not in (address, second.tensor.data_ptr())

    elsewhere(work)


def test_the_last_that_came_back_is_lent_first() -> None:
    def work() -> None:
        x = torch.randn(100)
        first, second = borrow_like(x), borrow_like(x)
        address = first.tensor.data_ptr()
        del second
        del first
        again = borrow_like(x)
        assert again.tensor.data_ptr() == address

    elsewhere(work)


def test_views_are_of_the_same_memory() -> None:
    loan = borrow_like(torch.randn(4, 6))
    loan.tensor.fill_(1.0)
    octets = loan.viewed((4, 6, 4), torch.uint8)
    assert octets.data_ptr() == loan.tensor.data_ptr()
    assert octets[3, 5].tolist() == torch.ones(1).view(torch.uint8).tolist()
    for length in range(1, 20):  # more shapes than are kept
        assert loan.viewed((length,), torch.float32).data_ptr() == loan.tensor.data_ptr()


def test_a_loan_returns_to_its_own_thread() -> None:
    x = torch.randn(100)
    with ThreadPoolExecutor(1) as pool:
        loans = [pool.submit(borrow_like, x).result()]
        address = loans[0].tensor.data_ptr()
        here = borrow_like(x)
        assert here.tensor.data_ptr() != address
        loans.clear()  # ends here
        assert borrow_like(x).tensor.data_ptr() != address
        assert pool.submit(lambda: borrow_like(x).tensor.data_ptr()).result() == address


def test_memory_made_for_inference_serves_training() -> None:
    x = torch.randn(9)

    def work() -> None:
        with torch.inference_mode():
            borrow_like(x)
        loan = borrow_like(x)
        loan.tensor.copy_(x).mul_(2)

    elsewhere(work)


def test_a_thread_keeps_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_MOST", 100)

    def work() -> None:
        x, larger = torch.randn(10), torch.randn(24)
        first, second, third = borrow_like(x), borrow_like(x), borrow_like(x)
        assert [loan.is_kept for loan in (first, second, third)] == [True, True, False]
        assert not borrow_like(larger).is_kept  # what is lent cannot go
        del first, second
        loan = borrow_like(larger)  # what is free can
        assert loan.is_kept
        assert not borrow_like(x).is_kept
        del loan
        assert not borrow_like(torch.randn(26)).is_kept
        assert borrow_like(torch.randn(25)).is_kept  # all of it

    elsewhere(work)
