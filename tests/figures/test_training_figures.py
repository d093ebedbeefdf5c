import pytest

from ste_lightning.figures.training import comparison


@pytest.mark.parametrize(
    ("metric", "values", "words"),
    [
        ("test/accuracy", (0.5, 1.0), "75.00%"),
        ("test/bits_per_character", (0.9, 2.2), "1.55"),
        ("val/loss", (0.25, 0.5), "0.375"),
    ],
)
def test_shares_alone_are_told_in_percent(metric, values, words):
    figure = comparison([{"setting": "one", metric: value} for value in values], metric=metric)
    assert words in [text.get_text() for text in figure.axes[0].texts]
