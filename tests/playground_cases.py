"""Trainings of the library, recorded for the playground's engine."""

from __future__ import annotations

from typing import Any

from ste_lightning.theory import simulate
from ste_lightning.theory.counterexamples import counterexample
from ste_lightning.theory.engine.problem import ProblemLaw

_MEAN = {"name": "gaussian", "mean": 1.0}
_SPREAD = {"name": "gaussian", "std_spread": 1.0}
CASES: dict[str, dict[str, Any]] = {
    "trap_door": {"n": 8, "m": 4, "samples": 96, "seed": 1},
    "noise": {"n": 8, "m": 2, "samples": 64, "noise": 0.5, "lr": 0.3, "seed": 2, "burn_in": 100},
    "clipped": {"n": 6, "m": 3, "samples": 40, "rule": "clipped", "noise": 1.0, "seed": 3},
    "narrow": {"n": 6, "m": 3, "samples": 40, "rule": "clipped", "width": 0.5, "seed": 10},
    "triangular": {"n": 12, "m": 1, "samples": 30, "rule": "triangular", "seed": 4},
    "identity": {"n": 16, "m": 1, "samples": 24, "rule": "identity", "seed": 5},
    "odd": {"n": 8, "m": 4, "samples": 64, "rule": "odd_sign", "seed": 6},
    "mean": {"n": 8, "m": 4, "samples": 64, "seed": 7, "noise": 0.2, "inputs": _MEAN,
             "normalize": "center"},
    "spread": {"n": 8, "m": 2, "samples": 48, "seed": 11, "noise": 0.2, "inputs": _SPREAD,
               "normalize": "standardize"},
    "rows": {"n": 8, "m": 2, "samples": 48, "seed": 12, "noise": 0.2, "inputs": "uniform",
             "normalize": "layer_norm"},
    "whitening": {"n": 8, "m": 2, "samples": 48, "seed": 13, "noise": 0.2,
                  "inputs": "exponential", "normalize": "whitening"},
    "few_rows": {"n": 12, "m": 1, "samples": 9, "seed": 14, "normalize": "whitening"},
    "signs": {"n": 8, "m": 2, "samples": 48, "inputs": "rademacher", "noise": 0.3, "seed": 8},
    "momentum": {"n": 8, "m": 4, "samples": 96, "optimizer": "momentum", "seed": 9},
    "rolling": {"n": 8, "m": 4, "samples": 64, "noise": 0.4, "optimizer": "momentum",
                "momentum": 0.99, "lr": 0.1, "seed": 15},
    "adam": {"n": 8, "m": 4, "samples": 96, "optimizer": "adam", "lr": 0.02, "seed": 16},
    "adam_noise": {"n": 8, "m": 2, "samples": 64, "noise": 0.5, "optimizer": "adam", "lr": 0.01,
                   "seed": 17},
}  # fmt: skip
STEPS = 400


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the engine is given in case ``name``, and what the library makes of it."""
    case = {"noise": 0.0, "inputs": "gaussian", "normalize": "none", "rule": "relu", "lr": 1.0,
            "optimizer": "plain", "momentum": 0.9, "burn_in": 0, **CASES[name]}  # fmt: skip
    width = case.pop("width", 1.0)
    law = ProblemLaw(
        case["n"], case["m"], case["samples"], case["inputs"], "none", "normalized",
        case["noise"], "ones", "teacher", 0.1, case["seed"],
    )  # fmt: skip
    drawn = law.draw(0, 1)
    rules = {"odd_sign": counterexample("odd_sign"), "clipped": {"rule": "clipped", "width": width}}
    optimizer = {"optimizer": "adam" if case["optimizer"] == "adam" else "sgd"}
    momentum = {"momentum": case["momentum"] if case["optimizer"] == "momentum" else 0.0}
    arguments = {**case, "rule": rules.get(case["rule"], case["rule"]), **optimizer, **momentum}
    result = simulate(**arguments, trials=1, steps=STEPS, threads=1)
    problem = {
        "n": case["n"], "m": case["m"], "N": case["samples"],
        "Z": drawn.inputs.flatten().tolist(), "normalize": case["normalize"],
        "teacher": drawn.teacher[0].int().tolist(), "v": drawn.v[0].tolist(),
        "noise": drawn.noise[0].tolist(), "latent": drawn.latent[0].tolist(),
    }  # fmt: skip
    options = {key: case[key] for key in ("rule", "lr", "optimizer", "momentum")}
    options |= {"width": width, "from": case["burn_in"]}
    expected = {
        "wrong": result.hamming[0].tolist(),
        "loss": result.loss[0].tolist(),
        "latent": result.latent[0].tolist(),
        "visits": round(float(result.fraction_at_teacher[0]) * (STEPS - case["burn_in"])),
        "escapes": int(result.escapes[0]),
        "returns": int(result.returns[0]),
    }
    if not case["burn_in"]:  # the library's average is over all steps
        sums = (result.average[0] * STEPS).round().long()
        expected |= {
            "flips": int(result.flips[0]),
            "signSum": sums.tolist(),
            "averagedWrong": int(((sums >= 0) != (result.teacher[0] > 0)).sum()),
        }
    return {"problem": problem, "options": options, "steps": STEPS}, expected
