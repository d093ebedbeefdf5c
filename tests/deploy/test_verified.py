"""What is exported is run where it can be; what differs is not kept, what was not run is said."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.export import FORMATS, export, runtime
from ste_lightning.deploy.export.order import MissingPackageError
from ste_lightning.deploy.export.verified import agreement
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear


@pytest.fixture
def packed():
    torch.manual_seed(0)
    return deploy.pack(nn.Sequential(QuantLinear(6, 4)).eval(), torch.randn(3, 6))


def opened_by(monkeypatch, open):
    monkeypatch.setitem(FORMATS, "packed", replace(FORMATS["packed"], open=open))


def test_a_file_that_gives_other_results_is_not_kept(packed, tmp_path, monkeypatch):
    opened_by(monkeypatch, lambda path: lambda x: packed(x).flip(1))
    (tmp_path / "net").write_text("an earlier one")
    for samples, remedy in ((3, "give more samples"), (20, "use format=.packed")):
        with pytest.raises(ConfigurationError, match=rf"of {samples} differ.*not kept; {remedy}"):
            export(packed, tmp_path / "net", "packed", torch.randn(samples, 6))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]

    def fails(path):
        raise RuntimeError("Unsupported model IR version\n at line 7")

    opened_by(monkeypatch, fails)
    with pytest.raises(
        ConfigurationError, match=r"does not run what.*Unsupported model IR version$"
    ):
        export(packed, tmp_path / "net", "packed", torch.randn(3, 6))
    opened_by(monkeypatch, lambda path: lambda x: packed(x)[:, :2])
    with pytest.raises(ConfigurationError, match=r"shapes \[\(3, 2\)\] instead of \[\(3, 4\)\]"):
        export(packed, tmp_path / "net", "packed", torch.randn(3, 6))


def test_what_cannot_be_run_is_kept_and_said(packed, tmp_path, monkeypatch, caplog):
    def missing(path):
        raise MissingPackageError("this format needs the package x: pip install x")

    x = torch.randn(3, 6)
    for open, reason in ((missing, "pip install x"), (lambda path: None, "not installed")):
        opened_by(monkeypatch, open)
        with caplog.at_level(logging.WARNING):
            path = export(packed, tmp_path / "net", "packed", x)
        assert path.is_file()
        assert "net was not verified: not run: " in caplog.text
        assert reason in caplog.text
        caplog.clear()
    monkeypatch.undo()
    with caplog.at_level(logging.WARNING):
        export(packed, tmp_path / "net", "packed", x)
        export(packed, tmp_path / "w", "state_dict", x)  # weights, which nothing runs
    assert not caplog.text


class TwoOfTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = QuantLinear(6, 4)

    def forward(self, a, b):
        y = self.layer(a)
        return {"sum": y + b, "product": [y * b]}


def test_several_inputs_and_results(tmp_path):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    a, b = torch.randn(3, 6), torch.randn(3, 4)
    packed = deploy.pack(TwoOfTwo().eval(), (a, b))
    wanted = packed(a, b)
    run = runtime(export(packed, tmp_path / "net", "onnx", {"b": b, "a": a}), "onnx")
    for y, expected in zip(run(a, b), (wanted["sum"], *wanted["product"]), strict=True):
        assert torch.allclose(y, expected, atol=1e-5)
    fixed = export(packed, tmp_path / "fixed", "onnx", (a[:2], b[:2]), dynamic=False)
    made = runtime(fixed, "onnx", 2)(a, b)
    assert torch.allclose(made[0], wanted["sum"], atol=1e-5)


def test_agreement_counts_what_ties_do_not_explain():
    wanted = torch.tensor([[1.0, 0.0, 0.5]]).repeat(2000, 1)
    assert agreement(wanted + 1e-6, wanted).right

    def changed(count, index, value):
        y = wanted.clone()
        y[:count, index] = value
        return y

    found = agreement(changed(200, 2, 0.6), wanted)
    assert (found.different, found.turned, found.right) == (0, 200, True)
    assert not agreement(changed(201, 2, 0.6), wanted).right
    found = agreement(changed(3, 1, 2.0), wanted)
    assert (found.different, found.right) == (3, False)
    assert agreement(changed(2, 1, 2.0), wanted).right
    # equal pixels, of which rounding makes another one the largest, are no other prediction
    flat = torch.ones(4, 9)
    assert agreement(flat + 1e-6 * torch.rand(4, 9), flat).different == 0
    # a runtime's own rounding changes every result a little, but not by much
    assert agreement(wanted + 2e-3, wanted, rounds=True).right
    assert not agreement(wanted + 2e-3, wanted).right
    assert not agreement(wanted + 2e-1, wanted, rounds=True).right
    # one of few samples may be at a tie; a single one proves nothing
    assert agreement(changed(1, 2, 0.6)[:5], wanted[:5]).right
    assert not agreement(changed(1, 2, 0.6)[:1], wanted[:1]).right
    assert not agreement(wanted * torch.nan, wanted).right
    assert (
        str(agreement(changed(1, 2, 0.6)[:5], wanted[:5]))
        == "0 of 5 differ, 1 by more than rounding"
    )
    # rows that are no samples
    assert not agreement([wanted[:5], torch.ones(3)], [wanted[:5], torch.zeros(3)]).right
