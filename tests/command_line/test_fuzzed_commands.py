"""Wrong values for every key of export, predict, diff, combine and rules: one line each."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ste_lightning import combine, diff, export, predict, rules, train

pytestmark = pytest.mark.slow

FILES = ["nowhere", "empty", "text.txt", "x.npy", ""]
WHOLE = ["abc", "0", "-1", "1.5", "nan", "[]", "²", "99999999999999999999"]
CONFIGS = ["nowhere", "empty", "text.txt", "broken.yaml", "other.yaml", "list.yaml"]
SOUND = {
    export: {"ckpt_path": "run/checkpoints/last.ckpt", "seconds": "0", "samples": "9"},
    predict: {"model": "packed.safetensors", "input": "x.npy"},
    diff: {"ckpt_path": "run/checkpoints/last.ckpt", "model": "packed.safetensors"},
}
WRONG = {
    export: {
        "ckpt_path": [*FILES, "[]", "{a: 1}", "3", "packed.safetensors"],
        "format": ["abc", "[]", "{a: 1}", "3", "null", "[packed]"],
        "out": ["[]", "empty", "text.txt/x", "/proc/x", "{a: 1}"],
        "config": [*CONFIGS, "[]"],
        "floats": ["abc", "float64", "[]", "null", "3"],
        "samples": [*WHOLE, "null"],
        "batch_sizes": ["3", "[a]", "[0]", "[1.5]", "{a: 1}", "null", "[[1]]", "[99999999]"],
        "seconds": ["abc", "nan", "-1", "inf", "[]", "null"],
        "threads": WHOLE,
        "classes": ["abc", "[a]", "{a: 1}", "[[a]]", "3"],
        "preprocessing": [
            *("abc", "[]", "3", "{channels: abc}", "{rang: [0,1]}", "{mean: abc}", "{std: [0]}"),
            *("{range: [1,0]}", "{range: [0,nan]}", "{resize: -1}", "{crop: [1]}"),
        ],
        **{key: ["1"] for key in ("sample", "+x", "_target_", "hydra.nothing", "", "--x")},
    },
    predict: {
        "model": [*FILES, "run/checkpoints/last.ckpt"],
        "input": ["nowhere", "empty", "text.txt", "", "packed.safetensors"],
        "out": ["empty", "", "text.txt/x", "/proc/x"],
        "batch_size": WHOLE,
        "threads": WHOLE,
        "normalize": ["abc", "", "1", "True"],
        "range": ["abc", "1..0", "nan..1", "", "0..nan", "0..inf", ".."],
        "pixels": ["abc", "1..0", "nan..1", "", "-inf..inf"],
        "on_error": ["abc", ""],
        **{key: ["1"] for key in ("inptu", "", "--x")},
    },
    diff: {
        "ckpt_path": [*FILES, "packed.safetensors"],
        "model": [*FILES, "run/checkpoints/last.ckpt"],
        "input": ["nowhere", "empty", "text.txt", "", "packed.safetensors"],
        "config": CONFIGS,
        "samples": WHOLE,
        **{key: ["1"] for key in ("sample", "", "--x")},
    },
}
LINES = [
    (command, [*(f"{k}={v}" for k, v in SOUND[command].items() if k != key), f"{key}={value}"])
    for command, keys in WRONG.items()
    for key, values in keys.items()
    for value in values
]
LINES += [(command, [word]) for command in WRONG for word in ("abc", "--nothing", "model")]
LINES += [(combine, words.split(",")) for words in ("nowhere", "text.txt", "a,b", "--x", "run")]
LINES += [(rules, words.split()) for words in ("--plot", "abc", "--plto x", "--plot text.txt")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run, its packed network, and files that are not what they should be."""
    place = tmp_path_factory.mktemp("commands")
    np.save(place / "x.npy", np.zeros((4, 64), np.float32))
    (place / "empty").mkdir()
    for name, text in {
        "text.txt": "hello",
        "broken.yaml": "a: [1",
        "other.yaml": "a: 1",
        "list.yaml": "[1]",
    }.items():
        (place / name).write_text(text)
    return place


@pytest.fixture
def here(folder, cli, small, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not Path("packed.safetensors").exists():
        run = ["+recipe=digits_mlp", *small, "hydra.run.dir=run"]
        assert train.main(run) == 0
        given = [f"{key}={value}" for key, value in SOUND[export].items()]
        assert export.main([*given, "out=packed.safetensors"]) == 0
    sys.argv[1:] = []
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore")
def test_every_wrong_line_is_one_message(here, capsys):
    wrong = []
    for command, words in LINES:
        try:
            status = command.main(words)
        except SystemExit as stop:  # of argparse
            status = stop.code
        except Exception as error:
            status = repr(error)
        said = capsys.readouterr()
        one = said.err.count("error:") == 1 and "Traceback" not in said.out + said.err
        if status not in (1, 2) or not one or "STE_TRACEBACK" in said.err:
            wrong.append((command.__name__, words[-1:], status, said.err[-200:]))
    assert not wrong, f"{len(wrong)} of {len(LINES)}: {wrong}"
