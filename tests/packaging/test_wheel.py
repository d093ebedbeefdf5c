"""The wheel, installed in an empty folder, finds its configuration from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(site or ""), COLUMNS="100")
    environment.pop("COVERAGE_PROCESS_START", None)
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it where nothing else is."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run("-m", "build", "--wheel", "--no-isolation", "-o", str(folder), ".", cwd=ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_package_and_recipes_only(site: Path) -> None:
    assert {p.name.split("-")[0] for p in site.iterdir()} == {"ste_lightning"}
    names = {p.name for p in (site / "ste_lightning" / "_data" / "recipes").glob("*.yaml")}
    assert {p.name for p in (ROOT / "recipes").glob("*.yaml")} == names
    assert (site / "ste_lightning" / "py.typed").exists()
    kernels = Path("ste_lightning/deploy/export/c/kernels")
    assert {p.name for p in (site / kernels).iterdir()} == set(os.listdir(ROOT / kernels))


def test_two_builds_are_the_same_bytes(site: Path, tmp_path: Path) -> None:
    """Of another copy, made at another time."""
    copy = tmp_path / "copy"
    skipped = shutil.ignore_patterns(".*", "tests", "benchmarks", "outputs", "__pycache__", "dist")
    shutil.copytree(ROOT, copy, ignore=skipped)
    built = run("-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path), ".", cwd=copy)
    assert built.returncode == 0, built.stdout + built.stderr
    (first,), (second,) = site.parent.glob("*.whl"), tmp_path.glob("*.whl")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_runs_from_an_unrelated_folder(site: Path, tmp_path: Path) -> None:
    where = run(
        "-c", "import ste_lightning; print(ste_lightning.__file__)", cwd=tmp_path, site=site
    )
    assert where.stdout.startswith(str(site)), where.stdout + where.stderr
    result = run(
        "-m",
        "ste_lightning.train",
        "+recipe=teacher_student",
        "data.samples=32",
        "data.trials=2",
        "trainer.max_steps=3",
        "logger=none",
        cwd=tmp_path,
        site=site,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(tmp_path.rglob("*.ckpt"))


def test_the_users_own_recipe_folder(site: Path, tmp_path: Path) -> None:
    recipes = tmp_path / "my_recipes"
    recipes.mkdir()
    shipped = ROOT / "recipes" / "teacher_student.yaml"
    (recipes / "mine.yaml").write_text(shipped.read_text())
    command = ["-m", "ste_lightning.train", "--config-dir", "my_recipes", "+recipe=mine", "--cfg"]
    result = run(*command, "job", cwd=tmp_path, site=site)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "samples:" in result.stdout
