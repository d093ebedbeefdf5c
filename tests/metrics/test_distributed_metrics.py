"""Two processes: the same weights on both, different batches; one answer."""

from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ste_lightning import functional as SF
from ste_lightning.metrics import (
    DeadChannels,
    EstimatingError,
    FlipRatio,
    GradientStability,
    LatentHistogram,
    OscillationFrequency,
    PerLayer,
    Saturation,
    ScaleDrift,
    SignEntropy,
)


def _weights(step: int) -> torch.Tensor:
    return torch.randn(40, generator=torch.Generator().manual_seed(step))


def _values() -> dict[str, torch.Tensor]:
    """What one process finds alone; every rank of two must find the same."""
    metrics = {
        "flips": FlipRatio(),
        "oscillation": OscillationFrequency(0.5, 0.1),
        "saturation": Saturation(0.5),
        "entropy": SignEntropy(),
        "drift": ScaleDrift(),
        "histogram": LatentHistogram(bins=5),
        "stability": GradientStability(),
    }
    error = EstimatingError()
    layers = PerLayer(FlipRatio(), ["a", "b"])
    for step in range(6):
        w = _weights(step)
        for name, metric in metrics.items():
            metric.update(w[:2].abs() + 1 if name == "drift" else w)
        error.update(w, SF.surrogate("reste"))
        layers.update({"a": w, "b": w[:7]})
    values = {name: metric.compute() for name, metric in metrics.items()}
    return {**values, "error": error.compute(), **layers.compute()}


def _work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    values = _values()
    # rank 0 sees +1 and -1 in channel 0, rank 1 in channel 1, nobody in channel 2
    x = torch.ones(4, 3)
    x[0, rank] = -1
    dead = DeadChannels()
    dead.update(x)
    values["dead"] = dead.compute()
    torch.save(values, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.forks
def test_two_ranks_find_what_one_finds(tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # forked, so that the processes need not import torch again
    mp.start_processes(_work, args=(port, str(tmp_path)), nprocs=2, start_method="fork")
    alone = {**_values(), "dead": torch.tensor(1 / 3)}
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, msg=name)
