"""The notebooks run from top to bottom, cell by cell as in Jupyter, and show their results."""

import json
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    book = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers and loggers
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch) -> None:
    shell_of = pytest.importorskip("IPython.core.interactiveshell")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "profile"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell is that, too
    monkeypatch.chdir(tmp_path)
    shell = shell_of.InteractiveShell()  # a kernel's own, without a process that imports torch anew
    shown = 0
    for cell in cells(notebook):
        result = shell.run_cell(cell, store_history=False)
        result.raise_error()
        if result.result is not None:
            formats, _ = shell.display_formatter.format(result.result)
            assert "text/plain" in formats
            shown += "text/html" in formats
    assert shown > 0, "nothing is shown as a table"


def test_notebooks_hold_no_results() -> None:
    assert len(NOTEBOOKS) == 3
    for notebook in NOTEBOOKS:
        assert '"output_type"' not in notebook.read_text(encoding="utf-8"), "clear its outputs"
