"""The playground's engine beside ste_lightning.theory.simulate, in Node, and its server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from importlib.resources import files

import pytest
import torch
from playground_cases import CASES, recorded

from ste_lightning import playground
from ste_lightning.functional import surrogate
from ste_lightning.playground.__main__ import main, server
from ste_lightning.theory import required_samples
from ste_lightning.theory.counterexamples import counterexample

_FOLDER = next(iter(playground.__path__))
node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


def run_node(code: str, given: object = None) -> object:
    files = [json.dumps(f"{_FOLDER}/{name}.js") for name in ("problem", "engine")]
    parts = ", ".join(f"...require({file})" for file in files)
    program = f"const e = {{{parts}}};\n" + (
        "const given = JSON.parse(require('fs').readFileSync(0));\n"
        f"process.stdout.write(JSON.stringify((() => {{{code}}})()));"
    )
    done = subprocess.run(
        ["node", "-e", program], input=json.dumps(given), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TRAIN = """
    const Z = Float32Array.from(given.problem.Z);
    e.NORMALIZATIONS[given.problem.normalize](Z, given.problem.n);
    given.problem.Z = Z;
    const s = new e.Student(given.problem, given.options);
    const wrong = [s.wrong], loss = [s.loss];
    for (let t = 0; t < given.steps; t++) { s.step(); wrong.push(s.wrong); loss.push(s.loss); }
    return {wrong, loss, latent: Array.from(s.latent), visits: s.visits, escapes: s.escapes,
            returns: s.returns, flips: s.flips, averagedWrong: s.averagedWrong(),
            signSum: Array.from(s.signSum)};
"""


@node
@pytest.mark.parametrize("name", CASES)
def test_trajectories_are_those_of_the_library(name: str) -> None:
    given, expected = recorded(name)
    found = run_node(TRAIN, given)
    assert found["wrong"] == expected["wrong"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5, abs=1e-7)
    assert found["latent"] == pytest.approx(expected["latent"], rel=1e-4, abs=1e-5)
    for key in expected.keys() - {"wrong", "loss", "latent"}:
        assert found[key] == expected[key], key


@node
def test_rules_are_those_of_the_library() -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    found = run_node(
        "return Object.fromEntries(Object.entries(e.RULES).map("
        "([k, f]) => [k, given.map((x) => f(x, 1))]));",
        x.tolist(),
    )
    for name, values in found.items():
        rule = counterexample(name) if name == "odd_sign" else surrogate(name)
        assert values == pytest.approx(rule.derivative(x).tolist()), name


@node
def test_drawn_inputs_have_the_law_and_the_normalization_that_were_asked_for() -> None:
    code = """
      const base = {n: 8, m: 4, N: 2000, noise: 0.5, shift: 2, seed: 3};
      const moments = (Z) => {
        const mean = Z.reduce((a, b) => a + b) / Z.length;
        return [mean, Math.sqrt(Z.reduce((a, b) => a + (b - mean) ** 2, 0) / Z.length)];
      };
      const found = {};
      for (const law of Object.keys(e.LAWS)) {
        found[law] = moments(e.drawProblem({...base, law, normalize: "none"}).Z);
      }
      for (const normalize of Object.keys(e.NORMALIZATIONS)) {
        found[normalize] = moments(e.drawProblem({...base, law: "gaussian", normalize}).Z);
      }
      const p = e.drawProblem({...base, law: "gaussian", normalize: "none"});
      found.noise = moments(p.noise);
      const again = e.drawProblem({...base, law: "gaussian", normalize: "none"});
      found.same = p.Z.every((z, i) => z === again.Z[i]);
      return found;
    """
    found = run_node(code)
    assert found["gaussian"] == pytest.approx([2, 1], abs=0.02)
    assert found["rademacher"] == pytest.approx([0, 1], abs=0.02)
    assert found["exponential"] == pytest.approx([1, 1], abs=0.02)
    assert found["uniform"] == pytest.approx([0.5, 12**-0.5], abs=0.01)
    assert found["spread"][0] == pytest.approx(0, abs=0.1)
    assert found["none"] == found["gaussian"]
    assert found["center"] == pytest.approx([0, 1], abs=0.02)
    assert found["standardize"] == pytest.approx([0, 1], abs=1e-4)
    assert found["layer_norm"] == pytest.approx([0, 1], abs=1e-4)
    assert found["noise"] == pytest.approx([0, 0.5], abs=0.03)
    assert found["same"] is True


def test_the_page_is_one_file_and_is_served_on_the_loopback(tmp_path, capsys) -> None:
    out = tmp_path / "page.html"
    assert main(["--write", str(out)]) == 0
    text = out.read_text()
    assert "@@" not in text
    assert "http" not in text
    with server(0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{serving.server_port}"
        assert serving.server_address[0] == "127.0.0.1"
        try:
            with urllib.request.urlopen(f"{address}/?x=1", timeout=10) as answer:
                assert answer.read().decode() == text
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}/etc/passwd", timeout=10)
            assert main(["--port", str(serving.server_port)]) == 1
            assert "--port" in capsys.readouterr().err
        finally:
            serving.shutdown()
            thread.join()
    assert main(["--write", str(tmp_path)]) == 1
    assert main(["--port", "99999999"]) == 1


@node
def test_the_advice_is_that_of_the_library() -> None:
    asked = [
        {"n": n, "m": m, "rule": rule, "noise": noise}
        for n, m, rule, noise in [
            (32, 4, "relu", 0), (16, 1, "identity", 0.5), (50, 4, "triangular", 0),
            (12, 1, "relu", 0.3), (20, 4, "identity", 0.25), (100, 1, "relu", 0),
        ]
    ]  # fmt: skip
    table = json.loads((files("ste_lightning.theory") / "required_samples.json").read_text())
    advice = json.dumps(_FOLDER + "/advice.js")
    found = run_node(
        f"const a = require({advice});"
        """
        const ask = (one) =>
          a.requiredSamples(given.table, one, 0.95, one.noise ? "averaged" : "last");
        const line = (one) => a.halfLine(given.table, one, "averaged").length;
        return [given.asked.map(ask), line(given.asked[1]), line({...given.asked[1], noise: 0}),
                ask({...given.asked[0], m: 2}), ask({...given.asked[0], n: 130}),
                ask({...given.asked[0], rule: "odd_sign"})];
        """,
        {"asked": asked, "table": table["rows"]},
    )
    for one, told in zip(asked, found[0], strict=True):
        expected = required_samples(**one)
        for key in ("samples", "low", "high", "measured"):
            assert told[key] == getattr(expected, key), (one, key)
    assert found[1:] == [3, 6, None, None, None]


@node
def test_scenes_show_what_they_say() -> None:
    scenes = json.dumps(_FOLDER + "/scenes.js")
    found = run_node(
        f"const {{SCENES}} = require({scenes});"
        """
        return Object.fromEntries(SCENES.filter((one) => one.settings).map((one) => {
          const s = new e.Student(e.drawProblem(one.settings), one.settings);
          for (let t = 0; t < 1500; t++) s.step();
          return [one.id, {wrong: s.wrong, vote: s.averagedWrong(), escapes: s.escapes,
                           returns: s.returns, dead: s.dead, share: s.visits / s.steps,
                           alone: s.forces(11 % s.n).share, counted: s.wrongShare(11 % s.n)}];
        }));"""
    )
    assert found["trap-door"]["wrong"] == found["trap-door"]["escapes"] == 0
    assert found["sawtooth"]["escapes"] > 50
    assert abs(found["sawtooth"]["escapes"] - found["sawtooth"]["returns"]) <= 1
    assert found["vote"]["wrong"] > 0 == found["vote"]["vote"]
    assert found["sawtooth"]["alone"] == pytest.approx(found["sawtooth"]["counted"], abs=0.03)
    assert found["mean"]["dead"]
    assert found["by-hand"]["wrong"] == 0
    assert found["momentum"]["escapes"] > 2
