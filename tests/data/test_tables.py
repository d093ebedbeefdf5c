"""Tables: csv and parquet, numbers and categories, standardized by the training part."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from ste_lightning.data import Table
from ste_lightning.data.formats import read_table
from ste_lightning.errors import ConfigurationError


def rows(count=60):
    rng = np.random.default_rng(0)
    for i in range(count):
        size = "" if i == 7 else f"{rng.normal(5, 2):.3f}"
        yield [str(i), size, "red" if i % 2 else "green", str(i % 4), "yes" if i % 3 else "no"]


NAMES = ["number", "size", "colour", "legs", "edible"]


@pytest.fixture(params=[",", ";", "\t"])
def csv(tmp_path, request):
    lines = [request.param.join(row) for row in [NAMES, *rows()]]
    (tmp_path / "table.csv").write_text("\n".join(lines), "utf-8-sig")
    return tmp_path / "table.csv"


def test_columns_become_standardized_numbers_and_ones(csv):
    data = Table(csv, "edible", leave_out=["number"], categories=["legs"], batch_size=8)
    data.setup()
    legs = [f"legs={i}" for i in range(4)]
    assert data.columns == ["size", "colour=green", "colour=red", *legs]
    assert data.class_names == ("no", "yes")
    sizes = [len(p) for p in (data.train_part, data.validation_part, data.test_part)]
    assert sizes == [42, 6, 12]
    x = data.train_part.images
    torch.testing.assert_close(x[:, 0].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[:, 0].std(correction=0), torch.tensor(1.0), atol=0.05, rtol=0)
    assert torch.equal(x[:, 1:3].sum(1), torch.ones(42))
    every = torch.cat([p.images for p in (data.train_part, data.validation_part, data.test_part)])
    assert (every[:, 0].abs() < 1e-6).sum() == 1  # the missing number
    shares = [p.labels.float().mean().item() for p in (data.train_part, data.test_part)]
    assert shares[0] == pytest.approx(shares[1], abs=0.06)  # stratified
    batch, labels = next(iter(data.train_dataloader()))
    assert batch.shape == (8, 7)
    assert labels.dtype == torch.int64
    assert sum(len(y) for _, y in data.val_dataloader()) == 6
    assert sum(len(y) for _, y in data.test_dataloader()) == 12
    assert data.classes == 2
    said = data.preprocessing
    assert (len(said["mean"]), said["std"][1]) == (7, 1.0)


def test_parquet_holds_the_same(tmp_path, csv, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {n: [r[i] or None for r in rows()] for i, n in enumerate(NAMES)}
    columns["legs"] = [int(v) for v in columns["legs"]]
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    one, two = read_table(csv), read_table(path)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    path.write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_table(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match="parquet needs pyarrow"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "names a column twice"),
        ("a,b\n1,2\n1,2,3\n", "row 3 has 3 cells"),
        ("a,b\n\xff\n", "cannot be read"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, words):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ConfigurationError, match=words):
        read_table(path)
    with pytest.raises(ConfigurationError, match="Put the table there"):
        read_table(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "edibel"}, "Did you mean 'edible'"),
        ({"target": "size"}, "row 8 has no class"),
        ({"target": "number"}, "60 different values"),
        ({"target": "edible", "leave_out": NAMES[:-1]}, "leave a column"),
        ({"target": "edible", "batch_size": 50}, "42 rows"),
        ({"target": "edible", "validation": 0.9}, "leave something"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, options, words):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(",".join(row) for row in [NAMES, *rows()]))
    with pytest.raises(ConfigurationError, match=words):
        Table(path, **options).setup()


def test_whole_numbers_can_be_classes(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(",".join(row) for row in [NAMES, *rows()]))
    data = Table(path, "legs", batch_size=4)
    data.setup()
    assert data.class_names == ("0", "1", "2", "3")
