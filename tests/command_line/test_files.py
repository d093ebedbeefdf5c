"""Result files: whole or not at all, and as readable as any other file."""

import os
import stat

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import write_csv, write_text, written_together, written_whole
from ste_lightning.theory.studies import store


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_results_have_the_permissions_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_csv(tmp_path / "table.csv", [{"a": 1}])
        store.write(tmp_path / "cells" / "one.parquet", {"a": [1, 2]}, {"settings": {}})
        with written_whole(tmp_path / "other") as part:
            part.write_bytes(b"whole")
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {mode}
    assert store.read(tmp_path / "cells" / "one.parquet") == ({"a": [1, 2]}, {"settings": {}})


def test_a_failure_leaves_the_earlier_file_alone(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")
    with pytest.raises(KeyError), written_whole(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_text(path / "below", "a file is no folder")


def test_files_that_belong_together_appear_together(tmp_path):
    path = tmp_path / "new" / "net.c"
    with written_together(path) as part:
        part.write_text("source")
        part.with_suffix(".h").write_text("header")
        assert not path.exists()
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.c", "net.h"]
    with pytest.raises(KeyError), written_together(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "source"
    assert len(list(path.parent.iterdir())) == 2
    with pytest.raises(ConfigurationError, match="cannot be written"), written_together(path / "x"):
        pass
