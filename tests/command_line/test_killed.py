"""Runs that are killed at any moment go on to the same end."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ste_lightning.train import main

pytestmark = [pytest.mark.forks, pytest.mark.filterwarnings("ignore:.*trials are dead")]

DIGITS = ["trainer.max_epochs=3", "data.batch_size=256"]
MLP = [*DIGITS, "model.network.hidden=[16,16]"]
TWO_LAYER = ["data.n=6", "data.samples=64", "data.trials=4", "data.steps_per_epoch=80"]
RECIPES = {
    "digits_mlp": MLP,
    "digits_float": MLP,
    "digits_cnn": [*DIGITS, "model.network.channels=[4,4]", "data.shift=1"],
    "rules_compare": [
        *(*MLP, "hydra.mode=RUN", "quantizer.weight.map=lsq"),
        *("quantizer.weight.rule=identity", "+quantizer.weight.bits=4"),
    ],
    "teacher_student": TWO_LAYER,
    "non_gaussian": TWO_LAYER,
    "non_gaussian_normalized": [*TWO_LAYER, "model.optimizer=adam", "model.lr=0.01"],
    "recurrence": [*TWO_LAYER, "model.burn_in=10", "data.batch_size=16"],
    "sample_size": [*TWO_LAYER, "hydra.mode=RUN"],
}
COMMON = ["logger=none", "callbacks.progress=null", "rehearse=false", "callbacks.last.minutes=0"]


def kill_at(folder: Path, event: int) -> None:
    """Kill this process just before it touches a file of ``folder`` for the ``event``-th time.

    A file that it would begin to write is emptied, as its opening does.
    """
    left = event

    def hook(name: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        touching = name in ("os.mkdir", "os.rename", "os.remove") or (
            name == "open" and isinstance(given[1], str) and given[1][:1] in ("w", "a", "x")
        )
        if not touching or not str(given[0]).startswith(str(folder)):
            return
        left -= 1
        if left < 0:
            if name == "open" and given[1][:1] == "w":
                os.close(os.open(given[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_a_process(
    arguments: list[str],
    kill_after: float | None = None,
    event: tuple[Path, int] | None = None,
) -> float:
    """Run a command line in a process of its own; return its time.

    It is killed after some seconds, or when it touches a file of a folder for the n-th time.
    """
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        if event is not None:
            kill_at(*event)
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(null, stream)
        status = 99
        try:
            status = main(arguments)
        finally:
            os._exit(status)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            assert kill_after is not None or event is not None or status == 0
            return seconds
        if kill_after is not None and seconds >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = float("inf")
        time.sleep(0.002)


def state(folder: Path) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    results = json.loads((folder / "results.json").read_text())
    best = folder / "checkpoints" / "best.ckpt"
    if best.exists():
        results["best"] = torch.load(best, weights_only=True)["state_dict"]
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    return {
        "metrics": results["metrics"],
        "best": results.get("best"),
        **{key: checkpoint[key] for key in kept},
        "random": checkpoint["exact_resume"]["ranks"][0]["random"],
    }


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def kill_and_resume(
    cli: Any, folder: Path, recipe: str, kills: int, events: Sequence[int] = ()
) -> None:
    """Compare a run with one that is killed ``kills`` times, each time it goes on.

    Args:
        cli, folder: where it runs.
        recipe: of :data:`RECIPES`.
        kills: how often it is killed after a random time.
        events: it is killed, too, when it touches its files for the n-th time.
    """
    command = [f"+recipe={recipe}", *RECIPES[recipe], *COMMON]
    # In this process first, so that the others find everything imported and compiled.
    status, _, err = cli(*command, f"hydra.run.dir={folder}/warm")
    assert status == 0, err
    seconds = in_a_process([*command, f"hydra.run.dir={folder}/whole"])
    whole = state(folder / "whole")
    killed = folder / "killed"
    moments: list[dict[str, Any]] = [{"event": (killed, n)} for n in events]
    moments += [{"kill_after": random.uniform(0, seconds)} for _ in range(kills)]
    for moment in moments:
        # A part that is killed before its first checkpoint begins again from the start.
        begun = (killed / ".hydra" / "hydra.yaml").is_file()
        part = [f"resume={killed}"] if begun else [*command, f"hydra.run.dir={killed}"]
        in_a_process(part, **moment)
    in_a_process([f"resume={killed}"])
    end = state(killed)
    different = [key for key in whole if not same(whole[key], end[key])]
    assert not different, f"{recipe}: {different}"
    files = [folder / name / "metrics" / "metrics.csv" for name in ("whole", "killed")]
    rows = [len(file.read_text().splitlines()) for file in files]
    assert 0 <= rows[0] - rows[1] <= len(moments)  # a row that was about to be written


def test_a_run_killed_five_times_ends_as_if_it_had_not_been(cli: Any, tmp_path: Path) -> None:
    kill_and_resume(cli, tmp_path, "digits_mlp", kills=5)


@pytest.mark.slow
def test_a_run_killed_at_each_of_its_files_ends_as_if_it_had_not_been(
    cli: Any, tmp_path: Path
) -> None:
    kill_and_resume(cli, tmp_path, "digits_mlp", kills=0, events=range(40))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_killed_ends_as_if_it_had_not_been(
    cli: Any, tmp_path: Path, recipe: str
) -> None:
    kill_and_resume(cli, tmp_path, recipe, kills=6)
