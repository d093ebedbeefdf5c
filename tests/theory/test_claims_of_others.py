"""Claims since: each is judged on results made up to say what the claim says, and on too few."""

import pytest

from ste_lightning.theory.claims import CLAIMS, networks, oscillation, proximal, real_rows
from ste_lightning.theory.studies.runner import Result


def _cell(settings, **columns):
    trials = len(next(iter(columns.values())))
    return Result(settings, {"trial": list(range(trials)), **columns}, 1.0)


def _around(value, spread=0.01):
    return [value * (1 + spread * k) for k in (-2, -1, 0, 1, 2, -1.5, 1.5, 0.5)]


def _recovery(samples, half):
    return [samples * (0.8 + 0.05 * k) > half for k in range(8)]


def _proximal():
    # Half of the trials recover at n^1.2 by PARQ's last iterate, at n^2 by the hard one's.
    halves = {"parq": lambda n: 4 * n**1.2, "hard": lambda n: 0.5 * n**2}
    return [
        _cell(
            {"ramp": ramp, "n": n, "samples": round(factor * half(n))},
            last=_recovery(factor * half(n), half(n)),
            ergodic=_recovery(factor * half(n), half(n) * 1.01),
        )
        for ramp, half in halves.items()
        for n in (64, 128)
        for factor in (0.5, 0.8, 1.0, 1.25, 2.0)
    ]


def _swinging():
    expected = {"expected_up": [0.3, float("nan")], "expected_changes": [0.6, 0.0]}
    expected |= {"expected_rests": [False, True], "inside": [True, True]}
    seen = {"up": [0.301, 0.0], "changes": [0.6, 0.0], "band": [1.0, 0.0]}
    seen = {key: values * 100 for key, values in {**expected, **seen}.items()}
    return [_cell({"method": "qat", "lr": lr}, **seen) for lr in (0.05, 0.02)]


def _levels():
    losses = {("qat", 0.0): 2.0, ("regularized", 0.0): 1.0, ("dampened", 0.1): 0.5}
    losses |= {("regularized", 0.1): 2.01, ("frozen", 0.0): 1.9}
    return [
        _cell(
            {"levels": levels, "method": method, "strength": strength, **settings},
            loss=_around(3.0 if (method, strength, levels) == ("regularized", 0.1, 3) else loss),
        )
        for (method, strength), loss in losses.items()
        for levels in (3, 8, 16)
        for settings in (
            {"model": "linear", "correlation": 0.0},
            {"model": "linear", "correlation": 0.8},
        )
    ]


def _digits():
    return [r for r in _levels() if r.settings["correlation"] == 0.0]


def _order():
    accuracy = {"front": 0.9, "back": 0.6, "start": 0.7}
    return [
        _cell(
            {"inputs": "digits", "part": part, "depth": d, "order": order, "gradient": gradient},
            accuracy=_around(
                0.9 if part == "weights" else value - (0.05 * d if order == "back" else 0), 0.001
            ),
        )
        for part in ("activations", "weights", "both")
        for d in (2, 6)
        for order, value in accuracy.items()
        for gradient in ("blocked", "passed")
    ]


def _share():
    return [
        _cell(
            {"levels": levels, "steps": steps, "share": share, "cooldown": cooldown},
            loss=_around((1 + abs(share - steps / 800)) * (1.5 if cooldown == "separate" else 1)),
        )
        for levels in (2, 3, 4)
        for steps in (100, 200, 400)
        for share in (0.125, 0.25, 0.5)
        for cooldown in ("fused", "separate")
    ]


def _rows():
    return [
        _cell(
            {"rule": rule, "normalize": normalize, "inputs": inputs, "n": 48, "samples": N},
            last=_recovery(N, 200),
            ergodic=_recovery(N, 200),
        )
        for rule in ("identity", "relu")
        for normalize in ("standardize", "whitening")
        for inputs in ("digits", {"name": "normal_like", "table": "digits"})
        for N in (100, 150, 200, 300, 400)
    ]


def _layer():
    return [
        _cell(
            {"others": others, "batch_size": size},
            alone=_around(0.6, 0.01),
            coupled=_around(0.95, 0.005),
        )
        for others, size in ((True, 64), (False, None), (False, 64), (True, None))
    ]


MADE_UP = {
    "proximal": _proximal,
    "oscillation_weight": _swinging,
    "oscillation": _levels,
    "oscillation_digits": _digits,
    "order": _order,
    "share": _share,
    "real_covariance": _rows,
    "recurrence_network": _layer,
}
SINCE = [c for m in (proximal, oscillation, networks, real_rows) for c in m.CLAIMS]


@pytest.mark.parametrize("claim", SINCE, ids=lambda claim: claim.text)
def test_a_claim_holds_on_results_that_say_so(claim):
    results = MADE_UP[claim.recipe]()
    found = claim.measure(results)
    assert found is not None
    assert found.low <= found.value <= found.high + 1e-12
    if "last iterate" not in claim.text or "fewer" in claim.text:
        assert claim.verdict(found).startswith("holds"), found
    assert claim in CLAIMS


@pytest.mark.parametrize(
    "claim",
    [c for c in SINCE if c.recipe != "oscillation_weight" or "step size" in c.text],
    ids=lambda claim: claim.text,
)
def test_too_few_results_measure_nothing(claim):
    assert claim.measure(MADE_UP[claim.recipe]()[:1]) is None
