"""Text of any file, character by character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ste_lightning.data.batches import StepLoader
from ste_lightning.data.formats.hugging_face import read_split
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.models.streams import Stream

__all__ = ["Text"]

Batch = tuple[Tensor, Tensor]


class _Drawn(Dataset[Batch]):
    """Step t sees pieces that begin at places drawn by (seed, t, rank)."""

    def __init__(self, tokens: Tensor, length: int, size: int, seed: int, rank: int) -> None:
        self.tokens, self.length, self.size, self.seed = tokens, length, size, seed
        self.rank = rank

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, Stream.BATCHES, step, self.rank])
        starts = rng.integers(0, len(self.tokens) - self.length, (self.size, 1))
        places = torch.from_numpy(starts) + torch.arange(self.length + 1)
        pieces = self.tokens[places].long()
        return pieces[:, :-1], pieces[:, 1:]


class _Pieces(Dataset[Batch]):
    """A part of the text in its order, in pieces of one length; a shorter rest is left out."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, index: int) -> Batch:
        start = index * self.length
        piece = self.tokens[start : start + self.length + 1].long()
        return piece[:-1], piece[1:]


def _whole(batch: list[Batch]) -> Batch:
    return torch.stack([x for x, _ in batch]), torch.stack([y for _, y in batch])


class Text(L.LightningDataModule):
    """Any text file: what comes after these characters?

    The text is cut into three contiguous parts: the first is trained on, the second validates,
    the last tests. Training batches are pieces at random places that depend on (seed, step) alone,
    so that training goes on in the middle of an epoch; the other parts are read once, in order.
    Inputs and targets are integers (batch, length); the target of a place is the character after
    it. Its number is its place in ``vocabulary``, all characters of the file in the order of their
    code points.

    Args:
        path: the file; on Debian and Ubuntu ``bible-kjv`` has a text without copyright, see
            docs/data_and_networks.md. Or a folder of Hugging Face's ``datasets``, whose column
            ``text`` of the split ``train`` is taken, a line each.
        length: characters in a piece.
        batch_size: pieces per step and process.
        validation: fraction of the text for validation.
        test: fraction of the text for testing.
        steps_per_epoch: steps between two validations; None: so many that they see as many
            characters as the training part has.
        encoding: of the file.
        seed: of the places of training.
        num_workers: processes that prepare batches; 0 is fastest.

    Attributes:
        vocabulary: all characters, known after ``setup``; kept with exported networks.

    Raises:
        ConfigurationError: for a file that is missing or no text, and for parts that are too short.
    """

    vocabulary: str = ""

    def __init__(
        self,
        path: str | Path,
        length: int = 128,
        batch_size: int = 32,
        validation: float = 0.05,
        test: float = 0.05,
        steps_per_epoch: int | None = None,
        encoding: str = "utf-8",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        require(length > 0, "length", length, "use a positive integer")
        require(batch_size > 0, "batch_size", batch_size, "use a positive integer")
        require(0 < validation < 1, "validation", validation, "use a fraction between 0 and 1")
        require(0 < test < 1, "test", test, "use a fraction between 0 and 1")
        rest = 1 - validation - test
        require(rest > 0, "validation + test", validation + test, "leave something to train on")
        fits = steps_per_epoch is None or steps_per_epoch > 0
        require(fits, "steps_per_epoch", steps_per_epoch, "use a positive integer, or null")
        require(seed >= 0, "seed", seed, "use a non-negative integer")
        require(num_workers >= 0, "num_workers", num_workers, "use a non-negative integer")
        self.path, self.length, self.batch_size = Path(path), length, batch_size
        self.validation, self.test, self.encoding = validation, test, encoding
        self.steps_per_epoch, self.seed, self.num_workers = steps_per_epoch, seed, num_workers

    def setup(self, stage: str | None = None) -> None:
        """Read and cut, once; every stage makes all three parts."""
        if self.vocabulary:
            return
        text = self._read()
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        letters, numbers = np.unique(codes, return_inverse=True)
        tokens = torch.from_numpy(numbers.astype(np.int32))
        first = round((1 - self.validation - self.test) * len(tokens))
        second = round((1 - self.test) * len(tokens))
        parts = (tokens[:first], tokens[first:second], tokens[second:])
        for name, part in zip(("training", "validation", "test"), parts, strict=True):
            fits = len(part) > self.length
            require(fits, "length", self.length, f"the {name} part has {len(part)} characters")
        self.train_part, self.validation_part, self.test_part = parts
        self.vocabulary = "".join(map(chr, letters.tolist()))

    def _read(self) -> str:
        if self.path.is_dir():
            table, _ = read_split(self.path, "train")
            if "text" not in table.column_names:
                raise unknown("column of train", "text", table.column_names)
            return "\n".join(table["text"].to_pylist())
        if not self.path.is_file():
            raise ConfigurationError(
                f"path={str(self.path)!r} cannot be used: there is no such file. Give any text, "
                "data.path=FILE; on Debian and Ubuntu `apt-get install bible-kjv` and then "
                "`bible -f -l99999 Ge1:1-Re22:21 | cut -d' ' -f2- > kjv.txt` write one."
            )
        try:
            return self.path.read_text(self.encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise ConfigurationError(
                f"path={str(self.path)!r} cannot be used: it is no text in {self.encoding} "
                f"({error}); data.encoding=NAME says what it is in."
            ) from error

    @property
    def classes(self) -> list[str]:
        """What the outputs stand for, after ``setup``: the characters."""
        return list(self.vocabulary)

    def encoded(self, text: str) -> Tensor:
        """Return a text as integers (length,).

        Raises:
            ConfigurationError: for a character that is not in the vocabulary.
        """
        numbers = {letter: number for number, letter in enumerate(self.vocabulary)}
        other = sorted(set(text) - set(numbers))
        require(not other, "text", "".join(other), "these characters are not in the vocabulary")
        return torch.tensor([numbers[letter] for letter in text])

    def decoded(self, tokens: Tensor) -> str:
        """Return the text of integers (length,)."""
        return "".join(self.vocabulary[number] for number in tokens.tolist())

    def train_dataloader(self) -> StepLoader:
        """Return pieces at random places; every process of a training has its own."""
        rank, ranks = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        tokens = self.batch_size * self.length * ranks
        steps = self.steps_per_epoch or max(1, len(self.train_part) // tokens)
        drawn = _Drawn(self.train_part, self.length, self.batch_size, self.seed, rank)
        return StepLoader(drawn, steps, self.num_workers)

    def _in_order(self, part: Tensor) -> DataLoader[Any]:
        return DataLoader(_Pieces(part, self.length), 64, collate_fn=_whole)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation part, in order."""
        return self._in_order(self.validation_part)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test part, in order."""
        return self._in_order(self.test_part)
