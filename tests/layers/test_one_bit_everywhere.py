"""Layers that keep one bit per activation train in threads, in processes and in data loaders."""

from __future__ import annotations

import copy
import tempfile
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ste_lightning.layers import QuantConv2d, QuantLinear


def network(seed: int = 0) -> nn.Module:
    """Small, wide and convolutional layers: kept whole, as bits, and counted."""
    torch.manual_seed(seed)
    return nn.Sequential(
        QuantConv2d(4, 32, 3, padding=1, bias=False, input_quantizer="sign"),
        nn.BatchNorm2d(32),
        nn.Flatten(),
        QuantLinear(32 * 64, 128, input_quantizer="step"),
        nn.LayerNorm(128),
        QuantLinear(128, 4),
    )


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 4, 8, 8, generator=generator)
    return x, torch.randint(4, (64,), generator=generator)


def train(net: nn.Module, steps: int, seed: int = 0) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    x, y = batch(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def test_threads_with_models_of_their_own_train_as_one_does() -> None:
    expected = [train(network(seed), 6, seed) for seed in range(4)]
    nets = [network(seed) for seed in range(4)]  # torch's generator belongs to all threads
    found: list[list[torch.Tensor]] = [[] for _ in nets]

    def work(seed: int) -> None:
        found[seed] = train(nets[seed], 6, seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, other in zip(found, expected, strict=True):
        assert len(ours) == len(other)
        for a, b in zip(ours, other, strict=True):
            assert torch.equal(a, b)


def without_statistics() -> nn.Module:
    """A network whose gradient is the mean of those of the batch's parts."""
    net = network()
    net[1] = nn.Identity()
    return net


def _process(rank: int, directory: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{directory}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    net = nn.parallel.DistributedDataParallel(without_statistics())
    x, y = batch()
    nn.functional.cross_entropy(net(x[rank::2]), y[rank::2]).backward()
    torch.save([p.grad for p in net.parameters()], f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")
def test_a_step_on_two_processes_is_that_on_one() -> None:
    net = without_statistics()
    x, y = batch()
    nn.functional.cross_entropy(net(x), y).backward()
    with tempfile.TemporaryDirectory() as directory:
        torch.multiprocessing.spawn(_process, (directory,), nprocs=2)
        for rank in range(2):
            for grad, p in zip(
                torch.load(Path(directory) / f"{rank}.pt"), net.parameters(), strict=True
            ):
                assert p.grad is not None
                near_zero = 1e-5 * float(p.grad.abs().max())  # sums are rounded in another order
                torch.testing.assert_close(grad, p.grad, rtol=1e-5, atol=near_zero)


class Features(Dataset[torch.Tensor]):
    """Images through a frozen layer, and the gradient in them, computed where they are loaded."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        x = batch(index)[0].requires_grad_()
        (grad,) = torch.autograd.grad(self.layer(x).square().sum(), x)
        return grad


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_compute_the_same(start: str) -> None:
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip("the system has no such processes")
    data = Features(copy.deepcopy(network()[0]).requires_grad_(False))
    loader = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context=start)
    for index, found in enumerate(loader):
        assert torch.equal(found, data[index])
