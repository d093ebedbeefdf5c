"""Inputs and normalizations: diagnosis, the study, ties, teachers on raw inputs."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.figures import studies as figures
from ste_lightning.theory import simulate
from ste_lightning.theory.engine.problem import ProblemLaw
from ste_lightning.theory.studies import expand, run
from ste_lightning.theory.studies.normalization import diagnosis, normalization_rows


def test_what_is_wrong_with_inputs():
    fine = diagnosis("gaussian", 32)
    assert (fine.mean, fine.correlation) == (pytest.approx(0, abs=0.03), pytest.approx(0, abs=0.03))
    assert fine.features == pytest.approx(1, abs=0.1)
    assert fine.rows == pytest.approx(1 / math.sqrt(64), abs=0.02)
    assert diagnosis("exponential", 8).mean == pytest.approx(1, abs=0.05)
    equal = {"name": "correlated", "correlation": 0.5, "kind": "equal"}
    assert diagnosis(equal, 8).correlation == pytest.approx(0.5, abs=0.03)
    assert diagnosis({"name": "gaussian", "std_spread": 1.0}, 8).features > 10
    assert diagnosis({"name": "gaussian", "row_spread": 1.0}, 8).rows > 0.9
    assert diagnosis("wine", 13).features > 1000


def test_the_table_has_a_column_per_normalization(tmp_path):
    parts = {
        "same": {"normalize": ["none", "center"]},
        "raw": {"normalize": ["standardize"], "labels": ["raw"]},
    }
    grid = {"inputs": ["gaussian", {"name": "gaussian", "mean": 1.5}], "rule": ["relu", "identity"]}
    base = {"n": 12, "samples": 200, "trials": 8, "steps": 200}
    results = run(expand(base, grid, parts), tmp_path, workers=1, show=False)
    rows = normalization_rows(results)
    assert [(row["inputs"], row["rule"]) for row in rows] == [
        ("gaussian", "relu"),
        ("gaussian", "identity"),
        ("gaussian(mean=1.5)", "relu"),
        ("gaussian(mean=1.5)", "identity"),
    ]
    shifted = rows[2]
    assert float(shifted["mean"]) == pytest.approx(1.5, abs=0.05)
    assert float(shifted["none"][:4]) < 0.5 < float(shifted["center"][:4])
    assert float(shifted["dead"]) > 0.5
    assert "standardize, raw labels" in shifted
    figures.normalization_figure(results).savefig(tmp_path / "normalization.png")


@pytest.mark.parametrize("n", [16, 17])
def test_ties_are_broken_alike_in_labels_and_training(n):
    # Rows of -1 and 1 less their mean have exact ties, of odd n too: rounding decides about them.
    result = simulate(n=n, samples=200, trials=16, inputs="rademacher", normalize="layer_norm")
    there = result.last_recovery
    assert bool(there.any())
    assert bool((result.final_loss[there] == 0).all())
    assert bool((result.escapes == 0).all())


def test_ties_broken_otherwise_are_label_noise(monkeypatch):
    settings = {"n": 32, "samples": 512, "trials": 16, "inputs": "rademacher"}
    data = TeacherStudent(**settings, m=4, normalize="layer_norm")
    Z, (weight, v) = data.inputs.double(), data.teacher
    a = torch.einsum("bkmn,bn->bkm", Z, weight.double().sign())
    in_double = ((a > 0) * v[:, None].double()).sum(2).float()
    changed = in_double - data.train_data[1]
    assert 0 < float((changed != 0).float().mean()) < 0.05
    draw = ProblemLaw.draw

    def other(law, first, count):
        return dataclasses.replace(draw(law, first, count), noise=changed[first : first + count])

    monkeypatch.setattr(ProblemLaw, "draw", other)
    result = simulate(**settings, normalize="layer_norm", steps=1000)
    assert float(result.last_recovery.float().mean()) < 0.95
    assert bool(result.ergodic_recovery.all())


def test_a_teacher_on_raw_inputs_is_not_met():
    settings = {"n": 8, "m": 4, "samples": 400, "trials": 6, "steps": 300, "inputs": "exponential"}
    result = simulate(**settings, normalize="standardize", labels="raw")
    same = simulate(**settings, normalize="standardize")
    assert bool(same.last_recovery.all())
    assert bool((result.final_loss > 0).all())
    torch.testing.assert_close(result.teacher, same.teacher)
    torch_backend = simulate(**settings, normalize="standardize", labels="raw", backend="torch")
    assert torch.equal(torch_backend.hamming, result.hamming)
