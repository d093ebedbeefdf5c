"""What docs/migrate.md shows of libraries that cannot stand beside this one, by their Python."""

import os
import subprocess

import pytest
from docs.before import MIGRATE
from docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "migrate.md"
BLOCKS = [block for block in blocks(PAGE, "python") if block.note.startswith("by: ")]
BEFORE = {
    ".venv-lightning1": MIGRATE.format(imported="import pytorch_lightning as L"),
    ".venv-keras": "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\nimport tensorflow\n",
}


def test_all_are_found() -> None:
    environments = [block.note.removeprefix("by: ") for block in BLOCKS]
    assert environments == [".venv-lightning1", ".venv-keras", ".venv-keras"]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.text.splitlines()[0][2:])
def test_their_side_runs(block, tmp_path) -> None:
    environment = block.note.removeprefix("by: ")
    python = ROOT / environment / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"`make peers` makes {environment}")
    made = subprocess.run(
        [python, "-c", BEFORE[environment] + block.text],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
