"""`import ste_lightning as ste` offers the main names, and imports them when they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ste_lightning as ste


def test_the_import_is_lazy() -> None:
    code = "import sys, ste_lightning as ste; dir(ste); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_can_be_completed() -> None:
    for name in ste.__all__:
        assert getattr(ste, name) is not None
    assert set(ste.__all__) <= set(dir(ste))
    assert ste.layers.QuantLinear is ste.QuantLinear
    with pytest.raises(AttributeError, match="'quantise_'"):
        ste.quantise_  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(ste.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(n.module.removeprefix("ste_lightning."), n.names[0].name) for n in block.body}
    offered = {(module, name) for module, names in ste._OFFERED.items() for name in names}
    assert seen == offered | {("ste_lightning", name) for name in ste._PACKAGES}


def test_registries_can_be_listed() -> None:
    assert {"clipped", "relu"} <= set(ste.surrogate_names())
    assert {"sign", "lsq"} <= set(ste.quantizer_names())
    assert {"cosine", "linear"} <= set(ste.schedule_names())
    assert {"digits_mlp", "teacher_student"} <= set(ste.recipe_names())
    assert "gap" in ste.recipe_names(studies=True)
    assert "gap" not in ste.recipe_names()


def test_what_people_print_is_short() -> None:
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)).eval()
    policy = ste.convert.Policy.parse([{"match": "*", "weight": "sign", "input": "sign"}])
    report = ste.quantize_(net, policy)
    packed = ste.pack(net, torch.randn(2, 8))
    run = ste.simulate(n=8, samples=64, trials=2, steps=20)
    assert "1 of 3 layers" in repr(report)
    assert "last recovery" in repr(run)
    assert ste.convert.Policy.parse(eval(repr(policy)[7:-1])) == policy
    shown_and_inside = [
        (policy, "<td>*</td>"),
        (report, "<td>1</td>"),
        (ste.summary(net), "Linear"),
        (packed, "PackedLinear"),
        (run, "escapes"),
    ]
    for shown, inside in shown_and_inside:
        assert len(repr(shown)) < 300
        assert "\n" not in repr(shown)
        assert inside in shown._repr_html_()
