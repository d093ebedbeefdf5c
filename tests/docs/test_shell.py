"""The shell blocks of README and documentation run, line by line, but for those that are listed.

Trainings run as written with one epoch, studies in their small version with 8 steps; what stands
for a folder or checkpoint of yours (``FOLDER``, ``RUN``, ``outputs/.../best.ckpt``) is the newest.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from docs.blocks import PAGES, ROOT, Block, commands

NOT_RUN = {
    r"make test": "it is what runs this test",
    r"make demo": "an environment of its own; its first training is run here",
    r"python -m venv|.*-m pip install|pip install|apt-get install": "fills an environment",
    r"bible ": "a Debian package's text",
    r"python -m ste_lightning.train \+recipe=text_w158a8 data.path=kjv.txt": "needs that text",
    r"STE_KERNEL=": "a sketch: any program of yours",
    r"python -m pytest -m slow": "a test itself",
    r"for m in torch|time python": "times starts of Python",
    r"make \w+": "each is a step of a release or of CONTRIBUTING.md",
    r".venv-test/bin/python -m pytest|pre-commit|git ": "for people who change the package",
}
ONE_EPOCH = ["trainer.max_epochs=1", "callbacks.progress=null"]
FEW_STEPS = ["small=true", "small_n=16", "base.steps=8", "workers=1"]


def reason(line: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, line)), None)


def by_block() -> dict[Block, list[str]]:
    found: dict[Block, list[str]] = {}
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for block, line in commands(page):
            found.setdefault(block, []).append(line.removeprefix(".venv/bin/"))
    return found


def cases() -> list[pytest.param]:
    made = []
    for block, lines in by_block().items():
        if ours := [line for line in lines if reason(line) is None]:
            name = block.page.relative_to(ROOT).as_posix()
            made.append(pytest.param(ours, id=f"{name}:{block.line}"))
    return made


def newest(pattern: str) -> str:
    return str(max(Path().glob(pattern), key=lambda path: path.stat().st_mtime))


def filled(word: str) -> str:
    """Return a word of a command with the newest folder or checkpoint in the place of a user's."""
    key, equals, value = word.rpartition("=")
    if value.endswith("best.ckpt"):
        folder = "outputs/*" if "..." in value or "/" not in value else str(Path(value).parents[2])
        value = newest(f"{folder}/*/checkpoints/best.ckpt")
    elif value.endswith("/FOLDER"):
        value = newest(value.replace("FOLDER", "*"))
    return key + equals + value


def run(line: str, monkeypatch) -> None:
    words = shlex.split(line)
    assert words[:2] == ["python", "-m"], f"run it, or say in NOT_RUN why not: {line}"
    arguments = [filled(word) for word in words[3:]]
    if words[2].endswith(".train") and "--help" not in arguments:
        arguments += ONE_EPOCH if not any(word.startswith("resume=") for word in arguments) else []
        arguments += ["rehearse=false", "seed=0,1"] if "--multirun" in arguments else []
    if words[2].endswith(".study") and "--help" not in arguments:
        arguments += FEW_STEPS
    if "+recipe=required_samples" in arguments:
        arguments += ["grid.rule=[identity]"]
    room = ROOT / words[2].replace(".", "/") / "__main__.py"
    program = importlib.import_module(words[2] + (".__main__" if room.is_file() else ""))
    monkeypatch.setattr(sys, "argv", [words[2]])
    try:
        assert program.main(arguments) in (0, None), line
    except SystemExit as end:
        assert end.code in (0, None), line  # noqa: PT017


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a run of digits_mlp and pictures for it."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("python -m ste_lightning.train +recipe=digits_mlp", patch)
    (folder / "images").mkdir()
    (folder / "ste_lightning" / "theory").mkdir(parents=True)  # some studies write a table there
    for i, picture in enumerate(load_digits().images[:4]):
        Image.fromarray((picture * 15).astype("uint8")).save(folder / "images" / f"{i}.png")
    return folder


@pytest.mark.parametrize("lines", cases())
def test_the_lines_of_a_block_run(lines, trained, monkeypatch, capsys) -> None:
    monkeypatch.chdir(trained)
    for line in lines:
        run(line, monkeypatch)


def test_what_is_not_run_is_there() -> None:
    lines = [line for found in by_block().values() for line in found]
    first = {next((p for p in NOT_RUN if re.match(p, line)), None) for line in lines}
    assert first >= set(NOT_RUN), "no line is left for a reason"
