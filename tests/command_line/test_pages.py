"""Pages of results: what stands on them, from made-up files and from tiny runs."""

from __future__ import annotations

import html.parser
import json

import pytest
from omegaconf import OmegaConf

from ste_lightning import export, report
from ste_lightning.reports.html import charts, library
from ste_lightning.reports.html.page import (
    Chart,
    Fact,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    Text,
)
from ste_lightning.reports.html.run import run_page
from ste_lightning.reports.html.sweep import sweep_page
from ste_lightning.running import files, pages
from ste_lightning.running import sweep as sweeps
from ste_lightning.study import main as study

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Checked(html.parser.HTMLParser):
    """Collects text and tags; every tag must be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def charts_of(text: str) -> list[dict]:
    start = text.index('id="charts">') + len('id="charts">')
    return json.loads(text[start : text.index("</script>", start)])


def test_a_page_is_sound_html_whatever_its_texts_say() -> None:
    nasty = "</script><b>&\"'@@FOOT@@"
    spec = {"mark": "line", "description": nasty}
    parts = [
        Text(nasty),
        Fact(nasty, "1", nasty, "bad"),
        Table(nasty, ["a", ""], [["1,000", "words"], ["-2", ""]]),
        Table("folded", ["a"], [["b"]], folded=True),
        Chart(nasty, nasty, spec, Table("numbers", ["x"], [["1"]])),
        Gallery([Picture("data:image/png;base64,AA==", nasty)]),
    ]
    page = Page(nasty, nasty, [Section("One", parts), Section("Empty")], "foot")
    text = page.html("window.library = 1")
    found = Checked(text)
    assert found.text.count(nasty) >= 7
    assert "Empty" not in found.text
    assert len(set(found.ids)) == len(found.ids)
    assert charts_of(text) == [spec]
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "window.library" not in Page("t", "l", [Section("One", parts[:2])], "f").html(
        "window.library = 1"
    )


RESULTS = {
    "seed": 3,
    "metrics": {"test/accuracy": 0.5, "val/accuracy": 0.9, "val/loss": 0.25},
    "seconds": 12.0,
    "training_seconds": 9.5,
    "overrides": ["+recipe=some", "data.batch_size=7"],
    "versions": {"ste_lightning": "9.9", "torch": "2"},
    "git": "abc-dirty",
    "hardware": {"cores": 2, "gpus": []},
}
SETTINGS = {
    "name": "some",
    "report": ["test/accuracy", "val/accuracy"],
    "expected": {"test/accuracy": [0.6, 1], "val/accuracy": [0.8, 1]},
    "quantizer": {"weight": {"map": "sign"}, "input": None},
}


def test_a_run_is_told_from_its_files() -> None:
    history = [{"epoch": e, "step": 9 * e, "val/accuracy": 0.5 + e / 10} for e in range(4)]
    history += [{"epoch": 3, "step": 28, "val/once": 1.0}]
    history += [
        {"step": s, "quantization/flip_ratio/a": s / 1e4, "quantization/dead_channels/a": 0.0}
        for s in (63, 127, 191)
    ]
    counts = [[0] * 20 + [10] + [0] * 20, [5] + [0] * 39 + [5]]
    facts = {
        "layers": [
            {"name": "a", "type": "QuantLinear", "weights": "sign/clipped 1 bit", "inputs": "float",
             "products": "W1A32", "parameters": 10, "bytes": 4, "macs": 10, "why": "rule '*'"}
        ],
        "deployed_bytes": 4, "float_bytes": 40, "macs": {"W1A32": 10}, "notes": ["a note"],
        "histograms": {"a": [[63, counts[0]], [127, counts[1]]], "too short": [[63, counts[0]]]},
        "learned": {
            "a.weight_quantizer.scale": {"values": ["1"], "points": [[63, [0.5]], [127, [0.25]]]},
            "a.input_quantizer.alpha": {"values": ["1"], "points": [[63, [8.0]], [127, [8.0]]]},
            "s.thresholds": {"values": ["mean", "smallest", "largest"],
                             "points": [[63, [0.0, -1.0, 1.0]], [127, [0.1, -0.9, 1.5]]]},
        },
        "exports": {"packed": {
            "file": "best.packed.safetensors", "bytes": 4321, "samples": 1000, "threads": 1,
            "processor": "Some", "milliseconds": [{"batch": 1, "trained": 0.5, "packed": 0.1}],
        }},
        "rules": [{"rule": "clipped", "operand": "weight", "parameters": {"width": 1.0},
                   "equation": "1[|x| <= width]", "layers": ["a"],
                   "curves": {"derivative f'": [[-2, 0], [0, 1]]}}],
        "tested": 100, "mistakes": 2, "confused": [["4", "9", 2]],
        "pictures": [{"png": "data:image/png;base64,AA==", "text": "9 (60%), is 4"}],
        "speed": {"steps_per_second": 30.0, "sample_ms": 0.5},
    }  # fmt: skip
    text = run_page(SETTINGS, RESULTS, history, facts, "What it shows.").html("")
    said = Checked(text).text
    for words in (
        "some, seed 3", "What it shows.", "outside the expected 0.6 to 1", "expected 0.8 to 1",
        "10.0 times smaller than float32", "9.5 s of it training, 30.0 steps/s", "0.50 ms",
        "data.batch_size 7", "quantizer.weight.map sign", "rule '*'", "a note",
        "Dead channels: share of input channels on one level 0 throughout",
        "100% of them at first, 0% at the end", "clipped (width = 1) for weights",
        "Scale of weights", "a from 0.5 to 0.25", "Alpha of inputs: 8 throughout", "Thresholds, s",
        "packed best.packed.safetensors 4,321 1 0.500 0.100 5.0", "1,000 samples; threads: 1",
        "2 of the first 100 test samples", "9 (60%), is 4", "abc-dirty", "gpus none",
    ):  # fmt: skip
        assert words in said, words
    specs = charts_of(text)
    assert specs[0]["encoding"]["x"]["title"] == "epoch"
    assert len(specs) == 6  # accuracy, flips, scales, thresholds, one layer's weights, one rule
    assert specs[1]["data"]["values"][-1] == {"name": "a", "x": 192, "y": 0.0191}
    thresholds = [row for row in specs[3]["data"]["values"] if row["name"] == "largest"]
    assert [row["y"] for row in thresholds] == [1, 1.5]
    first = specs[4]["data"]["values"].splitlines()[1:42]
    assert sum(float(line.split(",")[2]) for line in first) == 1


def test_what_is_logged_within_epochs_is_drawn_by_steps() -> None:
    history = [{"epoch": s // 4, "step": s, "train/loss": 1 / (s + 1)} for s in range(8)]
    history += [{"epoch": e, "step": 4 * e + 3, "val/loss": 0.5 - e / 10} for e in range(2)]
    history += [{"epoch": e, "step": 4 * e + 3, "val/accuracy": e / 10} for e in range(2)]
    text = run_page(SETTINGS, RESULTS, history, {"checkpoint": "checkpoints/last.ckpt",
                    "deployed_bytes": 4, "float_bytes": 40}).html("")  # fmt: skip
    assert "export ckpt_path=checkpoints/last.ckpt measures size and speed" in Checked(text).text
    loss, accuracy = charts_of(text)
    assert loss["encoding"]["x"]["title"] == "optimizer step"
    assert [row["x"] for row in loss["data"]["values"] if row["name"] == "validation"] == [4, 8]
    assert accuracy["encoding"]["x"]["title"] == "epoch"


def test_many_lines_are_told_apart() -> None:
    spec = charts.lines({str(i): [(0, i), (1, i)] for i in range(12)}, "x", "y")
    dashes = spec["layer"][0]["encoding"]["strokeDash"]["scale"]["range"]
    colours = 7  # of the page
    looks = [(i % colours, str(dash)) for i, dash in enumerate(dashes)]
    assert len(set(looks)) == 12


def test_students_that_come_back_are_told_of() -> None:
    facts = {"wrong_signs": [[3, 0, 1, 0]], "fractions": [0.5, 0.7], "return_times": [6, 0, 2]}
    text = run_page({}, {**RESULTS, "overrides": []}, [], facts).html("")
    said = Checked(text).text
    assert "Nothing differs from the recipe" in said
    assert "0.600 (2 trials)" in said
    assert "8 ways back; half of them take at most 1 steps" in said
    trace, survival = charts_of(text)
    assert [row["y"] for row in trace["data"]["values"]] == [3, 0, 1, 0]
    assert "Nothing changes" not in said
    facts["wrong_signs"] = [[3, 0] + 300 * [0]]  # the way to the teacher is what there is to see
    text = run_page({}, {**RESULTS, "overrides": []}, [], facts).html("")
    assert "Nothing changes from step 12 to the last, 302." in Checked(text).text
    assert [row["y"] for row in charts_of(text)[0]["data"]["values"]] == [3] + 11 * [0]
    assert [row["y"] for row in survival["data"]["values"]] == [1, 0.25, 0.25]


def test_a_sweep_compares_its_settings() -> None:
    rows = [
        {"setting": f"sign, {lr}", "quantizer": "sign", "lr": lr, "seed": seed, "loss": lr + seed}
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    ]
    estimates = [
        {"metric": "loss", "name": f"sign, {lr}", "mean": lr + 0.5, "low": lr, "high": lr + 1}
        for lr in (0.1, 0.2)
    ]
    page = sweep_page(
        "many", rows, ["quantizer", "lr", "seed"], ["loss"], estimates, [{"lr": "0.1"}],
        {"5": ""}, "foot",
    )  # fmt: skip
    text = page.html("")
    said = Checked(text).text
    assert "lowest loss 0.6 sign, 0.1" in said
    assert "1 without results" in said
    assert "5 it was stopped" in said
    forest, parallel = charts_of(text)
    assert [row["name"] for row in forest["layer"][2]["data"]["values"]] == [
        "sign, 0.1",
        "sign, 0.2",
    ]
    assert {row["axis"] for row in parallel["data"]["values"]} == {"quantizer", "lr", "loss"}
    assert {row["at"] for row in parallel["data"]["values"] if row["axis"] == "lr"} == {0, 1}


def test_a_sweep_of_one_run_each_has_no_intervals_and_draws_what_differs() -> None:
    rows = [{"setting": str(n), "n": n, "trials": 64, "found": n / 9} for n in (3, 6)]
    estimates = [
        {"metric": metric, "name": row["setting"], "mean": row[metric]}
        for row in rows
        for metric in ("trials", "found")
    ]
    page = sweep_page("one", rows, ["n"], ["trials", "found"], estimates, [{"n": 3}], {}, "foot")
    text = page.html("")
    forest, parallel = charts_of(text)
    assert [layer["data"]["values"][0].keys() for layer in forest["layer"]] == [
        {"name", "value"},
        {"metric", "name", "mean"},
    ]
    assert {row["axis"] for row in parallel["data"]["values"]} == {"n", "found"}
    assert "One run each" in Checked(text).text


@pytest.fixture
def light(monkeypatch):
    """Pages without the drawing library, which takes seconds to put together."""
    monkeypatch.setattr(pages, "drawing_library", lambda: "")
    monkeypatch.setattr(pages, "installed", lambda: True)


def test_a_run_leaves_a_page_that_can_be_made_again(cli, small, light, tmp_path, capsys) -> None:
    run = ["+recipe=digits_mlp", *small, "hydra.run.dir=run", "write_report=true"]
    assert cli(*run, "callbacks.monitor.every=2")[0] == 0
    page = tmp_path / "run" / "report.html"
    first = page.read_text()
    said = Checked(first).text
    assert "test/accuracy" in said
    assert "QuantLinear sign/clipped 1 bit sign/clipped 1 bit" in said
    assert "Flips" in said
    assert "test samples are told wrongly" in said
    assert "data:image/png" in first
    assert "Binary multilayer perceptron on real handwritten digits." in said
    assert "In this folder, python -m ste_lightning.export ckpt_path=checkpoints/" in said
    page.unlink()
    assert report.main(["run"]) == 0
    assert page.read_text() == first
    given = ["samples=16", "seconds=0", "batch_sizes=[2]", "format=torch_export"]
    assert export.main([f"ckpt_path={files.trained(tmp_path / 'run')}", *given]) == 0
    said = Checked(page.read_text()).text
    assert "Measured by the export" in said
    kept = json.loads((tmp_path / "run" / "exports.json").read_text())["torch_export"]
    assert f"torch_export {kept['file']} {kept['bytes']:,} 2 " in said
    assert kept["bytes"] == (tmp_path / "run" / "checkpoints" / kept["file"]).stat().st_size
    assert {"batch", "trained", "packed", "exported"} == kept["milliseconds"][0].keys()
    (tmp_path / "run" / "report.json").unlink()
    assert report.main(["run"]) == 0
    assert "Layers" not in Checked(page.read_text()).text
    capsys.readouterr()
    (tmp_path / "run" / "report.json").write_text("{")
    assert report.main(["run"]) == 1
    assert "report.json cannot be read" in capsys.readouterr().err
    assert report.main([str(tmp_path)]) == 1
    assert "no run has finished there" in capsys.readouterr().err


def test_a_page_that_fails_costs_the_page_only(cli, small, monkeypatch, tmp_path) -> None:
    def broken(*given):
        raise ZeroDivisionError("of a page")

    monkeypatch.setattr(pages, "installed", lambda: True)
    monkeypatch.setattr(pages, "facts_of_network", broken)
    monkeypatch.setattr(pages, "run_page", broken)
    run = ["+recipe=digits_mlp", *small, "hydra.run.dir=run", "write_report=true", "rehearse=false"]
    status, out, err = cli(*run, "figures.curves=null")
    assert status == 0
    assert "test/accuracy" in out
    assert err.count("of a page") == 2
    assert (tmp_path / "run" / "results.json").is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_missing_package_is_said_in_one_line(cli, small, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(pages, "installed", lambda: None)
    monkeypatch.setattr(library, "installed", lambda: None)
    run = ["+recipe=digits_mlp", *small, "hydra.run.dir=run", "write_report=true", "rehearse=false"]
    status, _, err = cli(*run, "figures.curves=null")
    assert status == 0
    assert err.count("ste-lightning[report]") == 1
    assert len(err.strip().splitlines()) == 1
    assert report.main(["run"]) == 1


def test_two_layer_runs_and_sweeps_have_pages(cli, light, tmp_path) -> None:
    status, _, err = cli(
        "+recipe=recurrence", "--multirun", "data.samples=64,128", "data.trials=3",
        "data.steps_per_epoch=300", "hydra.sweep.dir=many", "write_report=true",
        "logger=none", "callbacks.progress=null", "figures.recurrence=null", "rehearse=false",
    )  # fmt: skip
    assert status == 0, err
    said = Checked((tmp_path / "many" / "0" / "report.html").read_text()).text
    assert "Wrong signs, the first trials" in said
    assert "Visits to the teacher" in said
    page = tmp_path / "many" / "report.html"
    first = page.read_text()
    assert "A sweep over data.samples: 2 settings." in Checked(first).text
    page.unlink()
    assert sweeps.recombine(tmp_path / "many")
    assert page.read_text() == first
    assert report.main(["many"]) == 0


def test_a_study_has_a_page(light, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["study"])
    base = ["base.trials=2", "base.steps=40", "write_report=true", "workers=1"]
    assert study([*base, "+recipe=phase_diagram", "grid.rule=[relu]", "grid.n=[4,6]",
                  "grid.samples_per_input=[2,4]", "hydra.run.dir=phases"]) == 0  # fmt: skip
    page = tmp_path / "phases" / "report.html"
    text = page.read_text()
    said = Checked(text).text
    assert "rule relu" in said or "all cells" in said
    assert len(charts_of(text)[0]["layer"][0]["data"]["values"]) == 4
    page.unlink()
    assert report.main(["phases"]) == 0
    assert page.read_text() == text
    config = tmp_path / "phases" / "config.yaml"
    older = OmegaConf.load(config)
    del older["small_n"]  # a study that ran before there was such a setting
    config.write_text(OmegaConf.to_yaml(older))
    assert report.main(["phases"]) == 0
    assert page.read_text() == text
    next((tmp_path / "phases" / "cells").iterdir()).unlink()
    assert report.main(["phases"]) == 1
    assert "1 cells are missing" in capsys.readouterr().err
    assert study([*base, "+recipe=recurrence", "base.n=6", "base.burn_in=0",
                  "~parts.step_size", "~parts.again", "parts.noise.noise=[0.5]",
                  "parts.noise.samples=[8,16]", "hydra.run.dir=back"]) == 0  # fmt: skip
    said = Checked((tmp_path / "back" / "report.html").read_text()).text
    assert "Wrong signs in the last steps of two trials" in said
    assert "Averaged iterate" in said


def test_the_drawing_library_is_kept(monkeypatch, tmp_path) -> None:
    class Package:
        __version__ = "1"
        asked = 0

        @classmethod
        def javascript_bundle(cls) -> str:
            cls.asked += 1
            return "'</script>'"

    monkeypatch.setattr(library, "installed", lambda: Package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [library.drawing_library() for _ in range(2)] == ["'<\\/script>'"] * 2
    assert Package.asked == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ste_lightning" / "vega-1.js"))
    assert library.drawing_library() == "'<\\/script>'"
    assert Package.asked == 2
