"""Schedules against the values of their papers."""

from __future__ import annotations

import math

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import schedules
from ste_lightning.functional.schedules import PRESETS, SCHEDULES, Schedule

GOLDEN: list[tuple[str, dict[str, float], dict[float, float]]] = [
    ("constant", {"value": 0.3}, {0: 0.3, 0.5: 0.3, 1: 0.3}),
    ("linear", {"start": 1, "end": 3}, {0: 1, 0.25: 1.5, 1: 3}),
    ("cosine", {}, {0: 0, 0.25: 0.5 - math.sqrt(2) / 4, 0.5: 0.5, 1: 1}),
    ("log", {}, {0: 0.1, 0.25: 10**-0.5, 0.5: 1, 1: 10}),
    # IR-Net: T_min = 0.1, T_max = 10, k = max(1 / t, 1)
    ("ede", {}, {0: 0.1, 0.5: 1, 0.75: 10**0.5, 1: 10}),
    ("ede", {"start": 1e-3}, {0: 1e-3, 0.5: 0.1, 1: 10}),
    ("ede_gain", {}, {0: 10, 0.25: 10**0.5, 0.5: 1, 1: 1}),
    # ReSTE's epochs 0, 25, 50, 75, 99 of 100
    ("reste", {}, {0: 1, 0.25: 1.1522, 0.5: 1.5858, 0.75: 2.2346, 0.99: 2.9686, 1: 3}),
    # bitorch's temperatures 0, .5, .75, .9375, .99902
    ("progressive", {}, {0: 1, 0.05: 0.5, 0.1: 0.25, 0.2: 0.0625, 0.5: 1 - 0.99902}),
    ("mirror_sigmoid", {}, {0: 1, 0.5: 0.5, 1: 0}),
    ("mirror_sigmoid", {"center": 0.3}, {0: 1, 1: 0}),
    ("delay", {}, {0: 0, 0.099: 0, 0.1: 1, 1: 1}),
    ("bits", {}, {0: 8, 0.142: 8, 0.143: 7, 0.5: 5, 0.86: 2, 1: 2}),
    ("bits", {"start": 2, "end": 4}, {0: 2, 0.4: 3, 0.7: 4, 1: 4}),
]


@pytest.mark.parametrize(("name", "params", "golden"), GOLDEN)
def test_golden_values(name: str, params: dict[str, float], golden: dict[float, float]) -> None:
    schedule = Schedule(name, tuple(params.items()))
    for progress, value in golden.items():
        assert schedule(progress) == pytest.approx(value, abs=5e-5)
        assert schedule(progress) == SCHEDULES[name](progress, **params)


def test_every_schedule_has_golden_values_and_is_exported() -> None:
    assert {name for name, _, _ in GOLDEN} == set(SCHEDULES)
    assert set(SCHEDULES) <= set(schedules.__all__)
    assert all(f in SCHEDULES for preset in PRESETS.values() for f in preset.values())


def test_mirror_sigmoid_falls_from_exactly_one_to_exactly_zero_for_any_center() -> None:
    for center in (0.1, 0.3, 0.5, 0.9):
        values = [schedules.mirror_sigmoid(i / 50, center) for i in range(51)]
        assert values[0] == 1
        assert values[-1] == 0
        assert values == sorted(values, reverse=True)


def test_a_window_of_training() -> None:
    schedule = Schedule("linear", begin=0.2, until=0.6)
    assert [schedule(p) for p in (-1, 0, 0.2, 0.4, 0.6, 1, 2)] == pytest.approx(
        [0, 0, 0, 0.5, 1, 1, 1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "cosin"}, "Did you mean 'cosine'"),
        ({"function": "linear", "params": (("stat", 1.0),)}, "Did you mean 'start'"),
        ({"function": "linear", "begin": 0.5, "until": 0.5}, "begin < until"),
    ],
)
def test_wrong_schedules(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Schedule(**arguments)  # type: ignore[arg-type]


def test_log_needs_positive_ends() -> None:
    with pytest.raises(ConfigurationError, match="positive"):
        schedules.log(0.5, start=0.0)
    with pytest.raises(ConfigurationError, match="steepness"):
        schedules.mirror_sigmoid(0.5, steepness=0.0)
