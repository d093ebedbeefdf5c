"""Claims since: each is judged on results made up to say what the claim says, and on too few."""

import functools

import pytest

from ste_lightning.theory.claims import (
    CLAIMS,
    networks,
    oscillation,
    proximal,
    real_rows,
    samples,
    votes,
)
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.wandering import samples_to_rest


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
    pushed = ("regularized", 0.1)
    losses |= {pushed: 2.01, ("frozen", 0.0): 1.9}
    return [
        _cell(
            {"levels": levels, "method": method, "strength": strength, **settings},
            loss=_around(3.0 if pushed == (method, strength) and levels < 8 else loss),
        )
        for (method, strength), loss in losses.items()
        for levels in (3, 4, 8, 16)
        for settings in (
            {"model": "linear", "correlation": 0.0},
            {"model": "linear", "correlation": 0.8},
            {"model": "step", "correlation": 0.8},
        )
    ]


def _digits():
    first = [r for r in _levels() if r.settings["correlation"] == 0.0]
    others = [
        _cell({"levels": 3, "seed": 2, "method": method, "strength": strength}, loss=_around(loss))
        for method, strength, loss in (
            ("qat", 0.0, 2.0),
            ("dampened", 0.1, 1.7),
            ("frozen", 0.0, 1.9),
        )
    ]
    return first + others


def _order():
    accuracy = {"front": 0.9, "back": 0.6, "start": 0.7, "together": 0.89}
    return [
        _cell(
            {"inputs": inputs, "part": part, "depth": d, "order": order, "gradient": gradient},
            **{
                column: _around(
                    0.9 if part == "weights" else value - (0.05 * d if order == "back" else 0),
                    0.001,
                )
                for column in ("accuracy", "fit")
            },
        )
        for inputs in ("digits", "planted")
        for part in ("activations", "weights", "both")
        for d in (2, 6)
        for order, value in accuracy.items()
        for gradient in ("blocked", "passed")
    ]


def _share():
    return [
        _cell(
            {"levels": levels, "steps": steps, "share": share, "cooldown": cooldown, **inputs},
            loss=_around(
                (1 + abs(share - steps / (400 if levels == 2 else 800)))
                * (1.5 if cooldown == "separate" else 1)
            ),
        )
        for levels in (2, 3, 4)
        for steps in (100, 200, 400)
        for share in (0.125, 0.25, 0.5, 1.0)
        for inputs in ({}, {"inputs": "fashion_mnist"})
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
        for table in ("digits", "fashion_mnist")
        for inputs in (table, {"name": "normal_like", "table": table})
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


def _phase(groups, sizes, last, averaged):
    """Cells whose trials recover around last(n, group) and averaged(n, group)."""
    return [
        _cell(
            {**group, "n": n, "samples": round(factor * last(n, group))},
            last=4 * _recovery(factor * last(n, group), 0.97 * last(n, group)),
            ergodic=4 * _recovery(factor * last(n, group), 0.97 * averaged(n, group)),
        )
        for group in groups
        for n in sizes
        for factor in (0.1, 0.16, 0.25, 0.4, 0.7, 0.9, 1.0, 1.15, 1.5, 3.0)
    ]


def _large():
    # The averaged iterate's N50 lies within reach of the same samples.
    half = {n: samples_to_rest(n) for n in (512, 1024, 2048)}
    return _phase([{}], half, lambda n, _: half[n], lambda n, _: half[n] * (512 / n) ** 1.2 / 1.2)


def _windows():
    # Width n^-1/2 times 4 is best; a window as wide as 3 needs thrice its samples.
    widths = [{"rule": {"rule": "clipped", "width": w}} for w in (0.25, 0.5, 1.0, 3.0)]
    best = {16: 1.0, 64: 0.5, 256: 0.25}
    return _phase(
        widths,
        best,
        lambda n, group: 4 * n * (3.0 if group["rule"]["width"] != best[n] else 1.0),
        lambda n, group: 4 * n,
    )


def _units():
    groups = [{"m": m, "v": v} for m, v in ((1, "ones"), (16, "ones"), (16, "gaussian"))]
    return _phase(
        groups,
        (64, 128),
        lambda n, g: n**2 / g["m"] ** 0.2,
        lambda n, g: n**2 / 1.3 / g["m"] ** 0.2,
    )


def _rules():
    half = {"relu": 75, "identity": 43, "triangular": 27}
    good = _phase(
        [{"rule": rule} for rule in half], (32,), lambda n, g: half[g["rule"]], lambda n, g: 20
    )
    never = [
        _cell(
            {"rule": {"counterexample": name}, "n": 32, "samples": 512},
            last=[False] * 400,
            ergodic=[False] * 400,
        )
        for name in ("odd_sign", "wrong_sign")
    ]
    return good + never


def _noise():
    return [
        _cell(
            {"n": n, "noise": s, "samples": N, "m": 1, "rule": "identity"},
            fraction=_around(1 / (1 + 4 * s**2 * n**3 / N / 4)),
            ergodic=_recovery(N, 8 * s**2 * n**1.4),
        )
        for n, s in ((8, 0.5), (16, 0.5), (32, 0.5), (16, 0.25), (16, 1.0))
        for N in (20, 60, 120, 250, 500, 1000, 2000, 4000, 8000, 16000, 40000)
    ]


def _votes():
    gain = {"last": 0.0, "vote": 0.03, "swa": 0.03, "ema": 0.028}
    return [
        _cell(
            {"inputs": "digits", "samples": N, "wrong_labels": wrong, "schedule": schedule},
            **{
                kept: [x + (more if schedule == "constant" else 0.02 + more / 3) for x in start]
                for kept, more in gain.items()
            },
        )
        for N in (300, 1200)
        for wrong in (0.0, 0.4)
        for schedule in ("constant", "linear")
        for start in [_around(0.8 - wrong / 2)]
    ]


MADE_UP = {
    "last_iterate": _large,
    "window": _windows,
    "hidden_units": _units,
    "rules": _rules,
    "noise_scaling": _noise,
    "votes": _votes,
    "proximal": _proximal,
    "oscillation_weight": _swinging,
    "oscillation": _levels,
    "oscillation_digits": _digits,
    "order": _order,
    "share": _share,
    "real_covariance": _rows,
    "recurrence_network": _layer,
}
MODULES = (proximal, oscillation, networks, real_rows, samples, votes)


@functools.cache
def _made_up(recipe):
    return MADE_UP[recipe]()


SINCE = [c for m in MODULES for c in m.CLAIMS]


@pytest.mark.parametrize("claim", SINCE, ids=lambda claim: claim.text)
def test_a_claim_holds_on_results_that_say_so(claim):
    results = _made_up(claim.recipe)
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
    assert claim.measure(_made_up(claim.recipe)[:1]) is None
