"""Sharded parameters (FSDP2)"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from plain_modules import FOUR_BITS, digits
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ste_lightning import deploy
from ste_lightning.convert import quantize_
from ste_lightning.layers import QuantizedLayer

pytestmark = pytest.mark.forks

WHOLE = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
SIGN = [{"match": "*", "weight": "sign", "input": "sign"}]


def network(policy: Any) -> nn.Sequential:
    """No batch norm: its statistics are a process's own."""
    torch.manual_seed(0)
    sizes = [(64, 24), (24, 24), (24, 24), (24, 10)]
    layers = [module for size in sizes for module in (nn.Linear(*size), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    quantize_(net, policy)
    net(next(iter(digits(1)))[0])  # learned steps see the same data whatever the processes
    return net


def train(net: nn.Module, part: slice, epochs: int = 2) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.9)
    for _ in range(epochs):
        for x, y in digits(6):
            optimizer.zero_grad()
            F.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()


def average(step: Tensor) -> None:
    assert step.grad is not None
    dist.all_reduce(step.grad)
    step.grad /= dist.get_world_size()


def sharded(rank: int, folder: Path, policy: Any) -> None:
    """Train in shards, twice: anew, and from the checkpoint of one process."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for start, result in ((None, "two"), ("one", "further_two")):
        net = network(policy)
        # torch shards no scalars: learned steps stay whole, and their gradients are averaged here
        steps = {p for p in net.parameters() if p.dim() == 0}
        for step in steps:
            step.register_post_accumulate_grad_hook(average)
        for layer in net:
            if isinstance(layer, (nn.Linear, QuantizedLayer)):
                fully_shard(layer, mesh=mesh, ignored_params=steps)
        fully_shard(net, mesh=mesh, ignored_params=steps)
        if start is not None:
            state = torch.load(folder / f"{start}.pt", weights_only=True) if rank == 0 else {}
            set_model_state_dict(net, state, options=WHOLE)
        train(net, slice(rank * 16, rank * 16 + 16))
        state = get_model_state_dict(net, options=WHOLE)
        if rank == 0:
            torch.save(state, folder / f"{result}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("policy", [SIGN, FOUR_BITS], ids=["sign", "4 bits"])
def test_shards_are_one_network(policy: Any, tmp_path: Path) -> None:
    """`fully_shard` in a loop of torch on two processes (gloo): trains as one process does, each
    loads the other's weights. Learned steps are scalars, which torch does not shard: they are
    `ignored_params`, and the loop averages their gradients. Lightning's `ModelParallelStrategy`
    is not tried
    """
    one = network(policy)
    train(one, slice(None))
    torch.save(one.state_dict(), tmp_path / "one.pt")
    mp.start_processes(sharded, (tmp_path, policy), nprocs=2, start_method="fork")
    equal(tmp_path, "two", one.state_dict())
    train(one, slice(None))
    equal(tmp_path, "further_two", one.state_dict())
    other = network(policy)
    other.load_state_dict(torch.load(tmp_path / "further_two.pt", weights_only=True))
    x = next(iter(digits(1)))[0]
    with torch.no_grad():
        torch.testing.assert_close(deploy.pack(other.eval())(x), other(x))


def equal(folder: Path, name: str, expected: dict[str, Tensor]) -> None:
    found = torch.load(folder / f"{name}.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)
