"""The recipes of papers, from end to end on tiny files in the true formats."""

from __future__ import annotations

import random

import pytest
import torch
from image_files import write_cifar
from PIL import Image

from ste_lightning.io.paths import RECIPES

QUICK = [
    "trainer.max_epochs=1",
    "logger=none",
    "callbacks.progress=null",
    "rehearse=false",
]
CIFAR = ["data.root=.", "data.batch_size=16", "data.validation=0.2"]
IMAGENET = [
    "data.root=.",
    "model.classes=2",
    "data.size=[64,64]",
    "data.batch_size=4",
    "data.validation=0.25",
    "data.num_workers=0",
]
WIDTHS = ["model.network.widths=[8,16,24,32]", "model.network.blocks=[1,1,1,1]"]
CASES = {
    "cifar10_resnet20_irnet": [*CIFAR, "model.network.width=4"],
    "cifar10_resnet20_reste": [*CIFAR, "model.network.width=4"],
    "cifar10_vgg_small": [*CIFAR, "model.network.width=8"],
    "cifar10_cnv_w1a1": CIFAR,
    "cifar10_cnv_w1a2": CIFAR,
    "cifar10_cnv_w2a2": CIFAR,
    "imagenet_resnet18_birealnet": [*IMAGENET, "model.network.width=8"],
    "imagenet_reactnet18": [*IMAGENET, "model.network.width=8"],
    "imagenet_quicknet": [*IMAGENET, *WIDTHS],
    "imagenet_mobilenetv2_w4a4": IMAGENET,
}
FAST = ("cifar10_resnet20_reste", "imagenet_quicknet")


@pytest.fixture
def files(tmp_path):
    write_cifar(tmp_path, 10, False, count=20)
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(8):
                colour = (10 * i, 200 if name.endswith("7") else 20, 90)
                Image.new("RGB", (70 + i, 80), colour).save(tmp_path / part / name / f"{i}.JPEG")
    return tmp_path


def test_every_recipe_of_the_literature_is_exercised():
    shipped = {p.stem for p in RECIPES.glob("*.yaml") if p.stem.startswith(("cifar", "imagenet"))}
    assert shipped == set(CASES)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in CASES]
)
def test_a_recipe_trains_and_tests_on_tiny_files(cli, files, name):
    status, out, err = cli(f"+recipe={name}", *QUICK, *CASES[name])
    assert status == 0, err
    assert "test/accuracy" in out
    said = (RECIPES / f"{name}.yaml").read_text()
    assert "not run here" in said
    assert "# Published:" in said


def checkpoint(folder, name):
    return next((folder / "outputs" / name).rglob("last.ckpt"))


@pytest.mark.slow
def test_reactnet_in_two_steps_with_a_teacher(cli, files):
    name, options = "imagenet_reactnet18", CASES["imagenet_reactnet18"]
    status, _, err = cli(f"+recipe={name}", *QUICK, *options, "quantizer=float", "name=teacher")
    assert status == 0, err
    teacher = f"teacher={checkpoint(files, 'teacher')}"
    both = ["callbacks=distilled", teacher]
    first = ["quantizer=reactnet_step1", "name=first", *both]
    status, _, err = cli(f"+recipe={name}", *QUICK, *options, *first)
    assert status == 0, err
    start = checkpoint(files, "first")
    status, _, err = cli(f"+recipe={name}", *QUICK, *options, *both, f"init_from={start}")
    assert status == 0, err


def test_a_character_recipe_reads_any_text(cli, tmp_path):
    words = ["heaven", "earth", "and", "the", "light"]
    random.seed(0)
    (tmp_path / "kjv.txt").write_text(" ".join(random.choice(words) for _ in range(3000)))
    tiny = ["data.steps_per_epoch=3", "data.length=16", "data.batch_size=4",
            "model.network.width=16", "model.network.depth=1"]  # fmt: skip
    status, out, err = cli("+recipe=text_w158a8", *QUICK, *tiny)
    assert status == 0, err
    assert "test/bits_per_character" in out
    start = checkpoint(tmp_path, "text_w158a8")
    status, _, err = cli("+recipe=text_float", *QUICK, *tiny, f"init_from={start}")
    assert status == 0, err
    binary = ("+recipe=text_w1a1", *QUICK, *tiny)
    status, out, err = cli(*binary, "data.path=${module_file:json.decoder}")
    assert status == 0, err
    assert "test/bits_per_character" in out
    status, _, err = cli(*binary, "data.path=${module_file:not_there}")
    assert status == 1
    assert "module_file='not_there'" in err


def test_training_starts_from_float_weights_by_name_or_by_order(cli, tmp_path, small):
    only = [*small, "rehearse=false", "figures.curves=null"]
    status, _, err = cli("+recipe=digits_float", *only)
    assert status == 0, err
    start = checkpoint(tmp_path, "digits_float")
    still = ["optimizer.lr=0", "callbacks.clipping=null"]
    status, _, err = cli("+recipe=digits_mlp", *only, *still, f"init_from={start}")
    assert status == 0, err
    before, after = (
        [
            value
            for key, value in torch.load(path, weights_only=True)["state_dict"].items()
            if key.endswith("weight")
        ]
        for path in (start, checkpoint(tmp_path, "digits_mlp"))
    )
    assert all(map(torch.equal, before, after))
    other = [*only, "model.network.hidden=[8,8]", f"init_from={start}"]
    status, _, err = cli("+recipe=digits_mlp", *other)
    assert status == 1
    assert "network.1.weight has shape (8, 64), the checkpoint has (16, 64)" in err
    status, _, err = cli("+recipe=digits_mlp", *only, "init_from=nothing.ckpt")
    assert status == 1
    assert "there is no such checkpoint" in err
