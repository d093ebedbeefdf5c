from __future__ import annotations

import numpy as np
import pytest
import torch

import ste_lightning.rules as command
from ste_lightning import functional as SF
from ste_lightning.figures.rules import gallery, quantizer_figure, rule_figure, staircase_gallery
from ste_lightning.quantizers import build, quantizer_names


def curves(figure) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}


def test_a_rule_is_drawn_with_its_own_functions() -> None:
    drawn = curves(rule_figure(SF.surrogate("approx")))
    x = torch.linspace(-2.2, 2.2, 1201, dtype=torch.float64).numpy()
    inside = np.clip(x, -1, 1)
    np.testing.assert_allclose(drawn["derivative f'"], np.maximum(2 - 2 * np.abs(x), 0), atol=1e-12)
    np.testing.assert_allclose(
        drawn["virtual forward f"], inside * (2 - np.abs(inside)), atol=1e-12
    )
    kept = ~np.isnan(drawn["forward q"])
    np.testing.assert_array_equal(drawn["forward q"][kept], np.where(x >= 0, 1, -1)[kept])
    assert (~kept).sum() == 1  # the line is broken at the jump


def test_a_rule_for_activations_is_drawn_with_steps_and_a_tall_one_is_scaled() -> None:
    assert np.nanmin(curves(rule_figure(SF.surrogate("relu")))["forward q"]) == 0
    figure = rule_figure(SF.surrogate("reste"))
    assert curves(figure)["derivative f'"].max() == pytest.approx(2)
    assert any("derivative / 2.32" in text.get_text() for text in figure.axes[0].texts)


def test_a_quantizer_is_drawn_as_its_staircase() -> None:
    drawn = curves(quantizer_figure("uniform", build({"map": "uniform", "bits": 2})))
    levels = drawn["forward q"][~np.isnan(drawn["forward q"])]
    assert len(np.unique(levels.round(5))) == 4


def test_pages_have_a_panel_for_each() -> None:
    rules = [SF.surrogate(name) for name in ("identity", "ede", "relu", "swish", "leaky")]
    assert sum(axes.get_visible() for axes in gallery(rules).axes) == 5
    quantizers = [("sign", build("sign")), ("twn", build("twn", "weights"))]
    assert sum(axes.get_visible() for axes in staircase_gallery(quantizers).axes) == 2


def test_the_examples_are_complete() -> None:
    assert [rule.name for rule in command.example_rules()] == list(SF.surrogate_names())
    titles = [title.split()[0] for title, _ in command.example_quantizers()]
    assert titles == list(quantizer_names())


def test_the_command_prints_every_rule_and_quantizer(capsys) -> None:
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    for name in (*SF.surrogate_names(), *quantizer_names()):
        assert f"│ {name} " in printed
    assert "1[x > 0]" in printed  # brackets are no markup
    assert "arXiv 1308.3432" in printed
    assert "nothing" in printed
    assert "`" not in printed  # nor is the docstrings' markup shown


def test_the_command_draws_the_gallery(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(command, "example_rules", lambda: [SF.surrogate("ede")])
    monkeypatch.setattr(command, "example_quantizers", lambda: [("lsq  (3 bits)", build("lsq"))])
    assert command.main(["--plot", str(tmp_path / "new")]) == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"rules.png", "quantizers.png", "rule-ede.png", "quantizer-lsq.png"}
    assert "4 figures" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_an_error_message(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(command, "example_rules", lambda: [SF.surrogate("ede")])
    monkeypatch.setattr(command, "example_quantizers", lambda: [("sign", build("sign"))])
    (tmp_path / "file").write_text("")
    assert command.main(["--plot", str(tmp_path / "file")]) == 1
    assert "error: --plot" in capsys.readouterr().err


def test_a_gallery_needs_a_named_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--plot", ""])
    assert "name a folder" in capsys.readouterr().err
