"""The tables of pages hold what the stored results hold: picture and text are of one run."""

import csv
import statistics

from docs.blocks import ROOT

from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.studies.kept import read_kept
from ste_lightning.theory.studies.tables import thresholds

PAGE = ROOT / "docs" / "theory" / "last_iterate.md"


def said(cell: str, estimate: Estimate | None) -> bool:
    """Return whether a cell says an estimate's value, to as many digits as it shows."""
    assert estimate is not None
    value = cell.split()[0]
    return value == f"{estimate.value:.{len(value.partition('.')[2])}f}"


def test_the_table_of_the_gap_is_that_of_the_stored_study() -> None:
    kept = read_kept(ROOT / "results" / "theory" / "gap.parquet")
    lines = PAGE.read_text(encoding="utf-8").split("+recipe=gap`, m = 1")[1].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = {int(row[0]): row for row in cells[:10] if row and row[0].isdecimal()}
    found = {t.n: t for t in thresholds(kept.results)}
    assert rows.keys() == found.keys() == {16, 32, 64, 128, 256}
    for n, t in found.items():
        assert said(rows[n][1], t.n50_last), rows[n]
        assert said(rows[n][2], t.n50_ergodic), rows[n]
        assert said(rows[n][3], t.ratio), rows[n]


def runs_of(table: str) -> list[dict[str, str]]:
    with (ROOT / "results" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_choosing_costs_is_in_the_results() -> None:
    settings = {f"lsq{bits}": f"LSQ W{bits}A{bits}" for bits in (2, 4, 8)}
    settings |= {"ternary": "ternary, 8-bit inputs", "sign": "rule clipped", "float": "float"}
    digits, garments = runs_of("digits"), runs_of("fashion_mnist_rules")
    lines = (ROOT / "docs" / "choose.md").read_text(encoding="utf-8").split("# What it costs")[1]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines.splitlines()]
    shown = {row[0]: row for row in rows if row and row[0] in settings}
    assert shown.keys() == settings.keys()
    for name, setting in settings.items():
        found = [run for run in digits if run["setting"] == setting]
        assert shown[name][2] == f"{statistics.fmean(float(run['value']) for run in found):.4f}"
        assert shown[name][3] == f"{round(int(found[0]['bytes']) / 1000)} KB"
        assert shown[name][4] == f"{statistics.median(float(r['ms']) for r in found):.3f} ms"
        harder = [float(run["value"]) for run in garments if run["setting"] == setting]
        assert abs(float(shown[name][5]) - statistics.fmean(harder)) < 0.006, name
