"""Text: contiguous parts, next characters, a vocabulary that is kept, batches by step alone."""

from __future__ import annotations

import sys

import pytest
import torch

from ste_lightning.data import Text
from ste_lightning.errors import ConfigurationError

WORDS = "the quick brown fox jumps over the lazy dog, häufig auch im Kreis.\n" * 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(WORDS, "utf-8")
    return path


def test_parts_follow_each_other_and_targets_are_the_next_characters(file):
    data = Text(file, length=10, batch_size=4, validation=0.1, test=0.2)
    data.setup()
    parts = (data.train_part, data.validation_part, data.test_part)
    assert data.decoded(torch.cat(parts)) == WORDS
    assert [len(part) for part in parts] == [round(0.7 * len(WORDS)), 134, round(0.2 * len(WORDS))]
    assert data.vocabulary == "".join(sorted(set(WORDS)))
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == y.shape == (4, 10)
    for row, after in zip(x, y, strict=True):
        assert data.decoded(row) + data.decoded(after)[-1] in WORDS
    read = [x for x, _ in data.test_dataloader()]
    assert WORDS[-268:].startswith(data.decoded(torch.cat(read).flatten()))
    assert data.classes == list(data.vocabulary)
    with pytest.raises(ConfigurationError, match="not in the vocabulary"):
        data.encoded("§")


def test_batches_depend_on_seed_and_step_alone(file):
    def batches(seed, skip=0):
        data = Text(file, length=8, batch_size=2, steps_per_epoch=3, seed=seed)
        data.setup()
        loader = data.train_dataloader()
        assert len(loader) == 3
        if skip:
            loader.load_state_dict({"epoch": 0, "step": skip})
        return [x for x, _ in loader]

    one = batches(0)
    assert all(map(torch.equal, one, batches(0)))
    assert all(map(torch.equal, one[1:], batches(0, skip=1)))
    assert not torch.equal(one[0], batches(1)[0])
    data = Text(file, length=8, batch_size=2)
    data.setup()
    assert len(data.train_dataloader()) == len(data.train_part) // 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 500}, "the validation part has"),
        ({"length": 0}, "positive integer"),
        ({"validation": 0.6, "test": 0.5}, "leave something"),
        ({"steps_per_epoch": 0}, "or null"),
        ({"encoding": "ascii"}, "no text in ascii"),
        ({"encoding": "martian"}, "no text in martian"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(file, options, words):
    with pytest.raises(ConfigurationError, match=words):
        Text(file, **options).setup()


def test_a_missing_text_is_named_with_what_brings_one(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.txt.*apt-get install bible-kjv"):
        Text(tmp_path / "nothing.txt").setup()


def test_a_folder_of_datasets_is_a_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"text": WORDS.split("\n")}), tmp_path / "train-00000-of-00001.parquet"
    )
    data = Text(tmp_path, length=5)
    data.setup()
    parts = (data.train_part, data.validation_part, data.test_part)
    assert data.decoded(torch.cat(parts)) == WORDS
    parquet.write_table(pyarrow.table({"words": ["a"]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(ConfigurationError, match="unknown column of train 'text'"):
        Text(tmp_path).setup()
    with pytest.raises(ConfigurationError, match="no split 'train'"):
        Text(tmp_path.parent).setup()


def test_folders_of_datasets_need_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match="need pyarrow"):
        Text(tmp_path).setup()
