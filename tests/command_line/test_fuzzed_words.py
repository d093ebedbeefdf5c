"""Wrong values and wrong keys in every recipe: one line each, nothing trained, nothing accepted."""

import random

import pytest
from omegaconf import OmegaConf

from ste_lightning import study, train
from ste_lightning.io.paths import RECIPES

WRONG = {
    bool: ("abc", "[true]", "{a: 1}"),
    int: ("abc", "nan", "1.5", "[1,{a: 1}]", "{a: 1}", "-123456"),
    float: ("abc", "nan", "[1,[2]]", "{a: 1}"),
    str: ("[]", "{a: 1}", "no_such_thing_anywhere"),
    list: ("3", "{a: 1}", "nan", "abc"),
}
FREE = ("name", "folder", "title", "dirpath", "filename", "save_dir", "version")  # any text will do
TRAIN = sorted(path.stem for path in RECIPES.glob("*.yaml"))
STUDY = sorted(path.stem for path in (RECIPES / "study").glob("*.yaml"))


def leaves(path, value):
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(f"{path}.{key}".lstrip("."), part)
    else:
        yield path, value


def wrong_words(settings, chance):
    """Return one override that cannot be right."""
    known = [
        (path, value)
        for path, value in leaves("", settings)
        if type(value) in WRONG and "/" not in path and path.rpartition(".")[2] not in FREE
    ]
    path, value = chance.choice(known)
    if chance.random() < 0.2:  # a letter is missing in the last part of the key
        before, _, last = path.rpartition(".")
        return f"+{before}{'.' if before else ''}{last[:-1]}_x=1"
    return f"{path}={chance.choice(WRONG[type(value)])}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "recipe"),
    [(train, name) for name in TRAIN] + [(study, name) for name in STUDY],
    ids=lambda part: part if isinstance(part, str) else part.__name__.rpartition(".")[2],
)
def test_wrong_words_in_every_recipe(cli, tmp_path, capsys, command, recipe):
    status = command.main([f"+recipe={recipe}", "--cfg", "job", "--resolve"])
    printed = capsys.readouterr()
    if status and "is not installed" in printed.err:
        pytest.skip(printed.err)
    settings = OmegaConf.to_container(OmegaConf.create(printed.out))
    chance = random.Random(recipe)
    single = ["hydra.mode=RUN"] if command is train else []
    for _ in range(6 if command is train else 3):
        words = wrong_words(settings, chance)
        status = command.main([f"+recipe={recipe}", *single, words])
        printed = capsys.readouterr()
        assert status == 1, words
        assert "Traceback" not in printed.out + printed.err, words
        assert printed.err.count("error:") == 1, (words, printed.err)
        assert not list(tmp_path.rglob("*.ckpt")), words
