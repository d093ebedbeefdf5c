"""What networks for images have in common: sizes that can be, and stages of residual blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ste_lightning.errors import require

__all__ = ["check_images", "stages"]


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
