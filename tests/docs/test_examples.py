"""The code of README and documentation runs, and its commands are commands that there are."""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from docs.before import BEFORE
from docs.blocks import PAGES, ROOT, Block, blocks, commands, prose

from ste_lightning import study, train
from ste_lightning.quantizers import registry

# These lines say what is possible; they need what a test machine does not have.
LEFT_OUT = ('packed.to("cuda")', "packed.module.generate(", 'packed.predict("images/")')
HYDRA = {"train": train, "study": study}


surrogate = importlib.import_module("ste_lightning.functional.estimator.surrogate")


def runnable(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(LEFT_OUT))


def executed(found: list[Block], namespace: dict) -> None:
    for block in found:
        missing = block.note.removeprefix("needs: ")
        if missing != block.note and importlib.util.find_spec(missing) is None:
            continue
        code = compile("\n" * (block.line - 1) + runnable(block.text), str(block.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice about workers and loggers
            exec(code, namespace)


def with_python() -> list[pytest.param]:
    ours = {page: [b for b in blocks(page, "python") if b.note[:4] != "by: "] for page in PAGES}
    return [
        pytest.param(page, found, id=page.relative_to(ROOT).as_posix())
        for page, found in ours.items()
        if found
    ]


def run_page(page: Path, found: list[Block], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    # examples register rules and quantizers of their own, which nobody else should see
    monkeypatch.setattr(surrogate, "_RULES", dict(surrogate._RULES))
    monkeypatch.setattr(registry, "_QUANTIZERS", dict(registry._QUANTIZERS))
    namespace = {"__name__": f"example_{page.stem}"}
    module = type(sys)(namespace["__name__"])  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, namespace["__name__"], module)
    exec(BEFORE.get(page.name, ""), module.__dict__)
    executed(found, module.__dict__)


@pytest.mark.parametrize(("page", "found"), with_python())
def test_python_of_a_page_runs(page, found, tmp_path, monkeypatch) -> None:
    run_page(page, found, tmp_path, monkeypatch)


def docstrings() -> list[pytest.param]:
    """Return the indented blocks of code that docstrings hold, after a line that ends in ``::``."""
    found = []
    for file in sorted((ROOT / "ste_lightning").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        for node in (node for node in ast.walk(tree) if isinstance(node, kinds)):
            text = ast.get_docstring(node) or ""
            for block in re.findall(r"^(?!\.\.).*::\n\n((?:    .*\n|\n)+)", text + "\n", re.M):
                name = getattr(node, "name", file.stem)
                found.append(pytest.param(textwrap.dedent(block), id=name))
    return found


@pytest.mark.parametrize("code", docstrings())
def test_code_of_a_docstring_runs(code, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def written() -> dict[str, list[list[str]]]:
    """Return every command of blocks and of running text, by program."""
    found: dict[str, list[list[str]]] = {}
    for page in PAGES:
        inline = re.findall(r"`(python [^`]+)`", prose(page))
        for line in [line for _, line in commands(page)] + inline:
            words = shlex.split(line.replace("...", "").replace("\n", " "))
            if words[:2] == ["python", "-m"] and words[2].startswith("ste_lightning."):
                found.setdefault(words[2].removeprefix("ste_lightning."), []).append(words[3:])
            elif words and words[0] == "python" and words[1].endswith(".py"):
                found.setdefault(words[1], []).append(words[2:])
    return found


def single(argument: str) -> str:
    """Return an override with the first of several choices: a sweep's first run."""
    key, equals, value = argument.partition("=")
    return argument if value.startswith(("[", "{", "glob")) else key + equals + value.split(",")[0]


def composes(arguments: list[str]) -> bool:
    """Return whether a command can be tried without files of an earlier run, and is no sketch."""
    text = " ".join(arguments)
    return "+recipe=" in text and not re.search(
        r"NAME|FOLDER|RUN|key=|FILE|glob|--config-dir", text
    )


@pytest.mark.parametrize("program", sorted(HYDRA))
def test_commands_compose(program, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    tried = {
        tuple(single(a) for a in arguments if a not in ("--multirun", "-m"))
        for arguments in written()[program]
        if composes(arguments)
    }
    assert len(tried) > 5
    for arguments in sorted(tried):
        status = HYDRA[program].main([*arguments, "--cfg", "job"])
        assert status == 0, f"python -m ste_lightning.{program} {arguments}: {capsys.readouterr()}"


def test_programs_and_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for program in written():
        assert (ROOT / program).is_file() or (
            (ROOT / "ste_lightning" / f"{program}.py").is_file()
            or (ROOT / "ste_lightning" / program / "__main__.py").is_file()
        ), program
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name}: make {target}"
