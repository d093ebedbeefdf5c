"""Claims: the verdict follows from the interval, and the page from what is stored."""

import math

import pytest

from ste_lightning import results, study
from ste_lightning.errors import ConfigurationError
from ste_lightning.io.paths import RECIPES
from ste_lightning.theory.claims import CLAIMS, Claim, Measured
from ste_lightning.theory.claims.claim import mean, share
from ste_lightning.theory.claims.page import claims_page
from ste_lightning.theory.claims.sources import SOURCES
from ste_lightning.theory.studies import store
from ste_lightning.theory.studies.kept import read_kept
from ste_lightning.theory.studies.runner import Result


def _recovered(found):
    return share("recovered", [x for result in found for x in result.columns["last"]])


def _claim(holds, within=""):
    return Claim("students recover", "ours", "nearly all", "tiny", _recovered, holds, within)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.96, 0.99, "holds"), (0.1, 0.3, "does not hold"), (0.8, 0.97, "open")],
)
def test_a_verdict_follows_from_the_interval(low, high, verdict):
    found = Measured("recovered", (low + high) / 2, low, high)
    assert _claim((0.95, 1.0)).verdict(found) == verdict
    expected = "holds within 5 %" if verdict == "holds" else verdict
    assert _claim((0.95, 1.0), "5 %").verdict(found) == expected


def test_intervals_of_shares_and_means():
    assert share("", []) is None
    assert mean("", [1.0]) is None
    found = mean("x", [1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.3027, s = 1
    assert (found.value, found.high - 2.0) == pytest.approx((2.0, 4.30265 / math.sqrt(3)), abs=1e-4)
    assert str(share("right", [True] * 9 + [False])) == "right: 0.9 [0.5958, 0.9821]"


def test_what_is_claimed_has_a_source_and_a_recipe():
    studies = {path.stem for path in (RECIPES / "study").glob("*.yaml")}
    assert {claim.recipe for claim in CLAIMS} <= studies
    assert {claim.source for claim in CLAIMS} <= SOURCES.keys()


def test_a_study_is_kept_and_its_claims_are_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "tiny.yaml").write_text(
        "base: {n: 4, steps: 60, trials: 16, noise: 0.01}\n"
        "grid: {samples: [64], rule: [identity, {rule: clipped, width: 2.0}]}\n"
        "table: {_target_: ste_lightning.theory.studies.rates.rate_rows}\n"
    )
    arguments = ["+recipe=tiny", "write_report=false", "workers=1", f"--config-dir={recipes}"]
    assert study.main([*arguments, "keep=results/theory", "base.steps=50"]) == 0
    kept = read_kept(tmp_path / "results" / "theory" / "tiny.parquet")
    assert kept.about["command"] == "python -m ste_lightning.study +recipe=tiny base.steps=50"
    assert [r.settings["rule"] for r in kept.results] == [
        "identity",
        {"rule": "clipped", "width": 2.0},
    ]
    assert kept.results[0].settings["steps"] == 50
    assert len(kept.results[0].columns["last"]) == 16
    assert "hamming" not in kept.results[0].columns  # figures need it, claims do not

    claims = [_claim((0.5, 1.0)), _claim((0.0, 0.1), "0.1")]
    page = claims_page(tmp_path / "results" / "theory", claims)
    assert "**holds**" in page
    assert "**does not hold**" in page
    assert page.count("recovered: ") == 2
    assert "`python -m ste_lightning.study +recipe=tiny base.steps=50 keep=results/theory`" in page
    page = claims_page(tmp_path / "nothing", claims)
    assert page.count("| not run | **open** |") == 2

    assert results.main(["claims"]) == 0
    assert "written: " in capsys.readouterr().out
    assert "not run" in (tmp_path / "docs" / "theory" / "claims.md").read_text()
    assert results.main(["claims", "--folder", "nosuch"]) == 1  # the page stays as it is
    assert "nosuch/theory" in capsys.readouterr().err
    assert "tiny" in (tmp_path / "docs" / "theory" / "claims.md").read_text()
    (tmp_path / "results" / "theory" / "gap.parquet").write_bytes(b"not one")
    assert results.main(["claims"]) == 1
    assert "gap.parquet" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=r"gap\.parquet"):
        read_kept(tmp_path / "results" / "theory" / "gap.parquet")


def test_a_file_without_what_a_claim_needs_is_named(tmp_path):
    cells = {"settings": ["{}"], "provenance": ['{"seconds": 1.0}'], "flips": [[1.0]]}
    about = {"command": "x", "created": "2026-01-01", "versions": {}}
    store.write(tmp_path / "tiny.parquet", cells, about)
    with pytest.raises(ConfigurationError, match=r"tiny\.parquet does not hold .*KeyError: 'last'"):
        claims_page(tmp_path, [_claim((0.5, 1.0))])


def test_the_page_in_the_documentation_is_made_from_the_stored_results():
    root = RECIPES.parent
    page = claims_page(root / "results" / "theory")
    assert page == (root / "docs" / "theory" / "claims.md").read_text(encoding="utf-8")


def test_labels_of_raw_inputs_are_another_experiment():
    claim = next(c for c in CLAIMS if c.text == "Normalization restores it")
    cell = {"rule": "relu", "inputs": "exponential", "normalize": "standardize"}
    cells = [
        Result(cell, {"last": [True] * 40}, 0.0),
        Result({**cell, "labels": "raw"}, {"last": [False] * 40}, 0.0),
    ]
    assert claim.verdict(claim.measure(cells)) == "holds"
