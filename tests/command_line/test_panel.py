"""What a run says at its end, and what the shell completes."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest
from rich import console

from ste_lightning import complete
from ste_lightning.layers import QuantLinear
from ste_lightning.running import panel


def test_a_sparkline_has_the_shape_of_its_numbers() -> None:
    assert panel.sparkline([0, 1, 2, 4]) == "▁▃▅█"
    assert panel.sparkline([0, 0]) == "▁▁"
    assert panel.sparkline([]) == ""
    long = panel.sparkline(list(range(1000)))
    assert len(long) == 40
    assert list(long) == sorted(long)


def shown(tmp_path, capsys, terminal: bool, monkeypatch) -> str:
    if terminal:
        monkeypatch.setattr(console.Console, "is_terminal", property(lambda self: True))
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    history = [{"quantization/flip_ratio": value} for value in (0.02, 0.01)] + [{"val/loss": 1.0}]
    packed = panel.size_line(QuantLinear(64, 64, weight_quantizer="sign"))
    panel.show("some, seed 0", {"a": 0.5, "b": 2.0}, ["a"], {"a": [0.6, 1]}, history, packed,
               tmp_path, ["a note"])  # fmt: skip
    return capsys.readouterr().out


def test_a_panel_in_a_terminal_and_plain_lines_in_a_pipe(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plain = shown(tmp_path, capsys, False, monkeypatch)
    for words in (
        "some, seed 0", "0.6 to 1 (!)", "outside the band", "█▅  0.02 to 0.01", "a note",
        "768 B packed, 21.7 times smaller", f"ckpt_path={tmp_path}/checkpoints/best.ckpt",
        f"model={tmp_path}/checkpoints/best.packed.safetensors", f"ste_lightning.report {tmp_path}",
    ):  # fmt: skip
        assert words in plain, words
    assert "╭" not in plain
    assert "2.0" not in plain  # not in the recipe's table
    (tmp_path / "report.html").touch()
    framed = shown(tmp_path, capsys, True, monkeypatch)
    assert "╭" in framed
    assert "report.html" in framed


def test_a_run_in_a_pipe_ends_with_what_comes_next_and_draws_no_bar(cli, small, tmp_path) -> None:
    given = [one for one in small if not one.startswith("callbacks.progress")]
    status, out, err = cli("+recipe=digits_mlp", *given, "hydra.run.dir=run", "rehearse=false",
                           "figures.curves=null")  # fmt: skip
    assert status == 0, err
    assert "Epoch" not in out
    assert "python -m ste_lightning.export ckpt_path=run/checkpoints/best.ckpt" in out
    assert "times smaller than float32" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("python -m ste_lightning.tr", ["ste_lightning.train"]),
        ("python -m ste_lightning.train +recipe=digits_ml", ["digits_mlp"]),
        ("python -m ste_lightning.train +recipe=digits_mlp quantizer=lsq4_", ["lsq4_channel"]),
        ("python -m ste_lightning.train quantizer.weight=tern", ["ternary"]),
        ("python -m ste_lightning.train model.rule=triang", ["triangular"]),
        ("python -m ste_lightning.study +recipe=phase", ["phase_diagram"]),
        ("python -m ste_lightning.train wr", ["write_report=false"]),
    ],
)
def test_the_shell_completes(tmp_path, typed, found) -> None:
    script = tmp_path / "complete.sh"
    script.write_text(complete.script())
    typing = 'COMP_LINE="$1"; COMP_POINT=${#1}; _ste_lightning; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f". '{script}'; {typing}", "bash", typed],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == found


@pytest.mark.forks
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_what_is_typed(tmp_path) -> None:
    script = tmp_path / "complete.sh"
    script.write_text(complete.script())
    shell, terminal = pty.fork()
    if shell == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "200"})

    def shows(words: str) -> bool:
        seen, end = "", time.monotonic() + 30
        while words not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 1 << 16).decode(errors="replace")
        return words in seen

    try:
        begin = f"autoload -U compinit && compinit -u -D; . '{script}'; echo rea''dy\n"
        os.write(terminal, begin.encode())
        assert shows("ready")
        for typed, found in [
            ("python -m ste_lightning.tra\t", "ste_lightning.train "),
            ("+recipe=digits_ml\t", "+recipe=digits_mlp "),
            ("quantizer.weight=tern\t", "quantizer.weight=ternary "),
        ]:
            os.write(terminal, typed.encode())
            assert shows(found)
    finally:
        os.kill(shell, signal.SIGKILL)
        os.waitpid(shell, 0)


def test_completion_is_printed(capsys) -> None:
    assert complete.main(["bash"]) == 0
    assert "complete -F _ste_lightning python python3" in capsys.readouterr().out
