"""The tables of pages hold what the stored results hold: picture and text are of one run."""

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
