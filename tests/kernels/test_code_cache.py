"""Machine code that is kept between processes belongs to the sources it was made from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ste_lightning

numba = pytest.importorskip("numba")

from ste_lightning.kernels.jit import c_functions, code_cache, compiling  # noqa: E402

PACKAGE = Path(ste_lightning.__file__).parent
CALLEE = f"from {compiling.__name__} import inlined\n@inlined\ndef halve(x):\n    return x * 0.5\n"
ENTRY = (
    f"from {compiling.__name__} import compiled\n"
    "from ste_lightning.{room}.callee import halve\n"
    "@compiled\ndef run(x):\n    return halve(x)\n"
    "print(run(8.0), sum(run.stats.cache_hits.values()))\n"
)


def run(folder, room, **environment):
    """Return the result of the entry point and how often its machine code was found on the disk."""
    child = subprocess.run(
        [sys.executable, "-c", f"import ste_lightning.{room}.entry"],
        env={"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


@pytest.fixture
def copied(tmp_path):
    """A copy of the package; its folders import nothing by themselves, which takes seconds."""
    unneeded = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "ste_lightning", ignore=unneeded)
    for file in (tmp_path / "ste_lightning").rglob("__init__.py"):
        file.write_text("")
    return tmp_path


@pytest.mark.parametrize("room", ["theory.engine", pytest.param("kernels", marks=pytest.mark.slow)])
def test_an_edited_callee_takes_effect(copied, room):
    """The file of the entry point, which numba looks at, stays as it is."""
    callee = copied / "ste_lightning" / "kernels" / "callee.py"
    callee.write_text(CALLEE)
    entry = copied / "ste_lightning" / room.replace(".", "/") / "entry.py"
    entry.write_text(ENTRY.format(room="kernels"))
    assert run(copied, room) == "4.0 0"
    callee.write_text(CALLEE.replace("0.5", "5.0"))
    assert run(copied, room) == "40.0 0"
    callee.write_text(CALLEE)
    assert run(copied, room) == "4.0 1"
    assert run(copied, room, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="") == "4.0 0"


def test_says_that_it_compiles_only_where_no_code_is_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with caplog.at_level("INFO", logger="ste_lightning"):
        folder = code_cache._folder.__wrapped__(code_cache._KERNELS)
        assert caplog.text.count("compiling machine code") == 1
        (folder / "code").write_text("")
        code_cache._folder.__wrapped__(code_cache._KERNELS)
    assert caplog.text.count("compiling machine code") == 1
    assert str(folder) in caplog.text


def test_only_the_last_versions_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    (tmp_path / "mine").mkdir()
    seen = []
    for version in "abcde":
        monkeypatch.setattr(code_cache, "_sources", lambda room, version=version: iter([version]))
        seen.append(code_cache._folder.__wrapped__(code_cache._KERNELS))
        torch.save({}, seen[-1] / "code")  # a folder's time is the one of its last use
    assert [folder.exists() for folder in seen] == [False, False, True, True, True]
    assert (tmp_path / "mine").exists()


def test_compiled_functions_are_where_their_sources_are_looked_at():
    """What is compiled outside the kernels may call only the kernels and its own folder."""
    users = {
        file.relative_to(PACKAGE).parts[:-1]
        for file in PACKAGE.rglob("*.py")
        if f"from {compiling.__name__} import" in file.read_text()
        or f"from {c_functions.__name__} import" in file.read_text()
    }
    assert {parts for parts in users if parts[0] != "kernels"} == {("theory", "engine")}


@pytest.fixture
def nowhere(monkeypatch):
    """No folder can be written."""
    monkeypatch.setattr(code_cache, "_folder", lambda room: None)


@pytest.mark.usefixtures("nowhere")
def test_without_a_folder_every_process_compiles_anew():
    def double(x):
        return 2 * x

    function = compiling.compiled(double)
    assert function(3) == 6
    assert function.stats.cache_path is None


@pytest.mark.usefixtures("nowhere")
def test_addressed_functions_without_a_folder():
    @c_functions.addressed(c_functions.FLOATS, c_functions.SIZE)
    def double(x, size):
        values = c_functions.carray(x, (size,))
        for i in range(size):
            values[i] *= 2

    x = torch.arange(5.0)
    double(x.data_ptr(), 5)
    assert x.tolist() == [0, 2, 4, 6, 8]


def test_an_unwritable_setting_gives_way_to_the_next_place(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    assert code_cache._folder.__wrapped__(room).is_relative_to(room / "__pycache__")
    (room / "__pycache__" / "ste_lightning").rename(tmp_path / "old")
    (room / "__pycache__" / "ste_lightning").write_text("")
    monkeypatch.setattr(code_cache, "AppDirs", lambda **_: type("", (), {"user_cache_dir": file}))
    assert code_cache._folder.__wrapped__(room) is None
