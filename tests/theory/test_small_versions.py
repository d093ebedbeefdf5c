"""The small version of every study: it runs, shows its claim in small, and goes on when stopped."""

import pyarrow.parquet
import pytest

from ste_lightning import study
from ste_lightning.io.paths import RECIPES
from ste_lightning.theory.claims import CLAIMS
from ste_lightning.theory.claims.claim import at
from ste_lightning.theory.studies.kept import read_kept
from ste_lightning.theory.studies.tables import thresholds

STUDIES = sorted(path.stem for path in (RECIPES / "study").glob("*.yaml"))
STORED = RECIPES.parent / "results" / "theory"
# what shows with large n, or small steps, alone
NOT_IN_SMALL = {
    "So its last iterate needs fewer samples than straight-through descent's",
    "With SGD and a small step every rule on the weights is the identity from another start",
    "With Adam and a small step nothing need be changed",
    "also at the largest n, and within 10 %",
    "The two iterates' needs grow apart as a power of n",
}


def _rate(results, **settings):
    cells = at(results, **settings)
    assert cells
    return [sum(r.columns["last"]) / len(r.columns["last"]) for r in cells]


def _half(results, **group):
    found = [t for t in thresholds(results) if group.items() <= t.group.items()]
    return max(found, key=lambda t: t.n).n50_last.value


def _both_layers(results):
    # with equal v* the student finds w* from every start
    distances = [d for r in at(results, m=4, v="ones") for d in r.columns["distance"]]
    assert distances
    assert not any(distances)


def _deep(results):
    # a narrow window needs fewer samples
    assert _half(results, rule="clipped(width=0.5)") < _half(results, rule="clipped")


def _initialization(results):
    # neither step size nor start matters
    assert min(_rate(results)) >= 0.75


def _low_bit(results):
    # more bits need fewer samples
    one, three = (_half(results, weights="binary", bits=bits) for bits in ("1", "3"))
    assert three < one


def _real_data(results):
    # raw rows fail, whitened ones do not
    assert max(_rate(results, normalize="none")) <= 0.3
    assert min(_rate(results, normalize="whitening")) >= 0.75


def _required_samples(results):
    # one of the four rules needs most
    clean = [r for r in results if r.settings.get("noise", 0) == 0 and r.settings["n"] == 32]
    found = {t.group["rule"]: t.n50_last.value for t in thresholds(at(clean, m=4))}
    assert max(found, key=found.get) == "relu"


SHOWN = {
    "both_layers": _both_layers,
    "deep": _deep,
    "initialization": _initialization,
    "low_bit": _low_bit,
    "real_data": _real_data,
    "required_samples": _required_samples,
}


def _judged(name, results):
    """Return of each claim the verdict, and whether its number lies where the claim wants it."""
    found = {c: c.measure(results) for c in CLAIMS if c.recipe == name}
    return {
        c.text: (c.verdict(m).split(" within")[0], c.holds[0] <= m.value <= c.holds[1])
        for c, m in found.items()
        if m is not None
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_small_version_shows_what_its_study_claims(name, tmp_path):
    folder, kept = tmp_path / name, tmp_path / "kept"
    given = [f"+recipe={name}", "small=true", f"hydra.run.dir={folder}", f"keep={kept}"]
    assert study.main([*given, "write_report=true"]) == 0
    assert (folder / "report.html").is_file()
    drawn = "\nfigure: null" not in (RECIPES / "study" / f"{name}.yaml").read_text()
    assert (folder / "figure.png").is_file() == drawn
    results = read_kept(kept / f"{name}.parquet").results
    if name in SHOWN:
        SHOWN[name](results)
    else:
        seen = _judged(name, results)
        published = _judged(name, read_kept(STORED / f"{name}.parquet").results)
        for text, (verdict, _) in seen.items():
            if text not in NOT_IN_SMALL and verdict != "open":
                assert verdict == published[text][0], text
        assert any(within == published[text][1] for text, (_, within) in seen.items())
    # Killed, its last cells are missing; they are made again, equal, and no other is.
    cells = sorted((folder / "cells").iterdir(), key=lambda file: file.stat().st_mtime)
    whole = _rows(folder)
    times = {file: file.stat().st_mtime_ns for file in cells[:-2]}
    for file in cells[-2:]:
        file.unlink()
    assert study.main([*given, "figure=null", "write_report=false"]) == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert _rows(folder) == whole


def _rows(folder):
    return str(pyarrow.parquet.read_table(folder / "results.parquet").to_pylist())  # NaN is "nan"
