"""Trainings of the library, recorded for the playground's engine."""

from __future__ import annotations

from typing import Any

from ste_lightning.theory import simulate
from ste_lightning.theory.counterexamples import counterexample
from ste_lightning.theory.engine.problem import ProblemLaw

CASES: dict[str, dict[str, Any]] = {
    "trap_door": {"n": 8, "m": 4, "samples": 96, "seed": 1},
    "noise": {"n": 8, "m": 2, "samples": 64, "noise": 0.5, "lr": 0.3, "seed": 2},
    "clipped": {"n": 6, "m": 3, "samples": 40, "rule": "clipped", "noise": 1.0, "seed": 3},
    "triangular": {"n": 12, "m": 1, "samples": 30, "rule": "triangular", "seed": 4},
    "identity": {"n": 16, "m": 1, "samples": 24, "rule": "identity", "seed": 5},
    "odd": {"n": 8, "m": 4, "samples": 64, "rule": "odd_sign", "seed": 6},
    "mean": {"n": 8, "m": 4, "samples": 64, "seed": 7, "noise": 0.2,
             "inputs": {"name": "gaussian", "mean": 1.0}, "normalize": "center"},
    "signs": {"n": 8, "m": 2, "samples": 48, "inputs": "rademacher", "noise": 0.3, "seed": 8},
    "momentum": {"n": 8, "m": 4, "samples": 96, "momentum": 0.9, "seed": 9},
}  # fmt: skip
STEPS = 400


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the engine is given in case ``name``, and what the library makes of it."""
    case = {"noise": 0.0, "inputs": "gaussian", "normalize": "none", "rule": "relu", "lr": 1.0,
            "momentum": 0.0, **CASES[name]}  # fmt: skip
    law = ProblemLaw(
        case["n"], case["m"], case["samples"], case["inputs"], case["normalize"], "normalized",
        case["noise"], "ones", "teacher", 0.1, case["seed"],
    )  # fmt: skip
    drawn = law.draw(0, 1)
    rule = case["rule"]
    arguments = {**case, "rule": counterexample(rule) if rule == "odd_sign" else rule}
    result = simulate(**arguments, trials=1, steps=STEPS, threads=1)
    problem = {
        "n": case["n"], "m": case["m"], "N": case["samples"],
        "Z": drawn.inputs.flatten().tolist(), "teacher": drawn.teacher[0].int().tolist(),
        "v": drawn.v[0].tolist(), "noise": drawn.noise[0].tolist(),
        "latent": drawn.latent[0].tolist(),
    }  # fmt: skip
    options = {key: case[key] for key in ("rule", "lr", "momentum")}
    sums = (result.average[0] * STEPS).round().long()
    expected = {
        "wrong": result.hamming[0].tolist(),
        "loss": result.loss[0].tolist(),
        "latent": result.latent[0].tolist(),
        "visits": round(float(result.fraction_at_teacher[0]) * STEPS),
        "escapes": int(result.escapes[0]),
        "flips": int(result.flips[0]),
        "averagedWrong": int(((sums >= 0) != (result.teacher[0] > 0)).sum()),
        "signSum": sums.tolist(),
    }
    return {"problem": problem, "options": options, "steps": STEPS}, expected
