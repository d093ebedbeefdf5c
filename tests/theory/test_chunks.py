"""Chunks of trials: all of them once, within memory, by as many threads as fit."""

import threading
import time

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import simulate
from ste_lightning.theory.engine.chunks import plan, work_through

GIB = 2**30


@pytest.mark.parametrize("trials", [1, 7, 64, 1000])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("memory", [0.01, 0.1, 4.0])
def test_every_trial_is_in_one_chunk_and_all_in_work_fit(trials, workers, memory):
    each = GIB // 150
    threads, chunks = plan(trials, each, workers, memory, pieces=4)
    numbers = [first + i for first, count in chunks for i in range(count)]
    assert numbers == list(range(trials))
    assert 1 <= threads <= workers
    assert threads * max(count for _, count in chunks) * each <= memory * GIB


def test_fewer_threads_work_where_memory_is_small():
    assert plan(8, GIB // 4, 4, 1.0)[0] == 4
    assert plan(8, GIB // 4, 4, 0.6) == (2, [(i, 1) for i in range(8)])
    assert plan(8, 1000, 2, 1.0, pieces=2) == (2, [(0, 2), (2, 2), (4, 2), (6, 2)])


def test_a_trial_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(ConfigurationError, match=r"memory=0\.001 .* takes 0\.00781 GiB"):
        simulate(n=64, m=4, samples=2048, trials=2, steps=1, memory=0.001)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whoever_is_first(workers):
    seen = set()

    def work(chunk):
        seen.add(threading.get_ident())
        time.sleep(0.02 if chunk[0] == 0 else 0)
        return chunk[0] ** 2

    chunks = [(i, 1) for i in range(6)]
    assert list(work_through(work, chunks, workers)) == [(c, c[0] ** 2) for c in chunks]
    assert (threading.get_ident() in seen) == (workers == 1)


def test_traces_of_all_chunks_are_joined_in_order():
    settings = {"n": 8, "samples": 30, "trials": 9, "steps": 20, "noise": 0.3}
    whole = simulate(**settings, threads=1, memory=1.0)
    single = simulate(**settings, threads=2, memory=4 * 4 * 8 * 30 * 4 * 2 / GIB)
    assert torch.equal(whole.hamming, single.hamming)
    assert torch.equal(whole.loss, single.loss)
