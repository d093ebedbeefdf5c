"""What networks for images have in common: sizes that can be, stages of blocks, and their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ste_lightning.errors import require

__all__ = ["check_images", "doubling", "pooled_head", "stages"]


def check_images(image_channels: int, classes: int) -> None:
    """Refuse images without channels, and fewer than two classes.

    Raises:
        ConfigurationError: naming the argument.
    """
    require(image_channels > 0, "image_channels", image_channels, "use a positive integer")
    require(classes > 1, "classes", classes, "use two or more")


def stages(blocks: Sequence[int], widths: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Yield for every stage its blocks: channels before, channels after, stride.

    The first block of a stage changes the channels and, but for the first stage, halves the sides.

    Args:
        blocks: how many a stage has.
        widths: channels of every stage.
    """
    before = widths[0]
    for stage, (count, after) in enumerate(zip(blocks, widths, strict=True)):
        first = (before, after, 2 if stage > 0 else 1)
        yield [first, *[(after, after, 1)] * (count - 1)]
        before = after


def doubling(width: int, blocks: int) -> list[tuple[int, int, int]]:
    """Return all blocks of four stages, see :func:`stages`, each twice as wide as the one before.

    Args:
        width: channels of the first stage.
        blocks: how many every stage has.
    """
    widths = [width << stage for stage in range(4)]
    return [block for stage in stages([blocks] * 4, widths) for block in stage]


def pooled_head(channels: int, classes: int) -> nn.Sequential:
    """Return the end of a network: the mean over height and width, then a float linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
