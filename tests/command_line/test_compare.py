import csv

import pytest

from ste_lightning import compare
from ste_lightning.errors import ConfigurationError


def test_two_recipes_over_seeds_give_one_table_and_one_figure(cli, small, tmp_path, capsys):
    small = [word for word in small if "hidden" not in word]
    status = compare.main(
        ["+recipe=digits_mlp,digits_cnn", "seeds=2", *small, "hydra.sweep.dir=compared"]
    )
    printed = capsys.readouterr()
    assert status == 0, printed.err
    with (tmp_path / "compared" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["recipe"], row["runs"]) for row in rows] == [
        ("digits_mlp", "2"),
        ("digits_cnn", "2"),
    ]
    # what the recipes report, and nothing else
    assert "test/accuracy difference" in rows[0]
    assert not any("loss" in column for column in rows[0])
    assert (tmp_path / "compared" / "comparison.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quantizer=sign,float"], r"\+recipe=NAME,NAME is missing"),
        (["+recipe=digits_mlp"], "nothing to compare"),
        (["+recipe=digits_mlp", "figures=[a,b]"], "nothing to compare"),
        (["+recipe=a,b", "seeds=0"], "seeds='0' cannot be used"),
        (["+recipe=a,b", "seeds=two"], "seeds='two' cannot be used"),
        (["+recipe=a,b", "seed=1"], "say seeds=NUMBER"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, said, capsys):
    with pytest.raises(ConfigurationError, match=said):
        compare.sweep_of(words)
    assert compare.main(words) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_comparison_goes_on_and_help_is_short(capsys):
    assert compare.sweep_of(["resume=there"]) == ["resume=there"]
    assert compare.main(["--help"]) == 0
    assert "seeds=5" in capsys.readouterr().out
