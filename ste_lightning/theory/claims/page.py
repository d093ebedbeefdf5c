"""The page of claims in Markdown, from the kept results of studies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.whole_file import write_text
from ste_lightning.theory.claims import CLAIMS
from ste_lightning.theory.claims.claim import Claim
from ste_lightning.theory.claims.sources import OURS, SOURCES
from ste_lightning.theory.studies.kept import Kept, read_kept

__all__ = ["claims_page", "write_claims"]

_HEAD = """# Claimed, predicted, measured

Made from the files in [`results/theory/`](../../results/theory) by `python -m ste_lightning.results
claims`; do not edit. A file holds every trial of a study with its settings, versions and machine;
`python -m ste_lightning.study +recipe=NAME keep=results/theory` makes it.

**Verdicts.** Every claim says which values of one number it allows. It *holds* if the number's
95 % interval lies within them (*within* a tolerance where they have one), it *does not hold* if the
interval lies outside, and is *open* otherwise, also where nothing was run. An upper bound that
holds is not shown to be tight. Intervals cover the sampling error over trials alone. We know the
papers by their abstracts and the facts around them, not by their theorems' constants: the claim is
theirs, its wording and what is measured are ours. *Time* is what all cells of the study took, each
on one core of a machine with other work: an upper bound.
"""

_MADE_BY = "`python -m ste_lightning.study +recipe=NAME keep=FOLDER` writes FOLDER/NAME.parquet"
_COLUMNS = ("claim", "closed form or derivation", "measured", "verdict", "recipe", "time")


def claims_page(folder: Path, claims: Sequence[Claim] = CLAIMS) -> str:
    """Return the page.

    Args:
        folder: with the kept results, ``RECIPE.parquet``.
        claims: that stand on the page.

    Raises:
        ConfigurationError: if one of them does not hold a study's results.
    """
    kept = {path.stem: read_kept(path) for path in sorted(folder.glob("*.parquet"))}
    text = [_HEAD]
    for source, title in SOURCES.items():
        lines = [_line(claim, kept, folder) for claim in claims if claim.source == source]
        if lines:
            link = "" if source == OURS else f", [arXiv {source}](https://arxiv.org/abs/{source})"
            text += [f"## {title}{link}\n", *_table(_COLUMNS, lines), ""]
    together = sum(study.seconds for study in kept.values())
    text += [f"## The runs\n\n{len(kept)} studies, together {_duration(together)} of one core.\n"]
    text += _table(("command", "cells", "made with"), _runs(kept))
    return "\n".join(text) + "\n"


def write_claims(folder: Path, out: Path) -> None:
    """Write the page to ``out``.

    Raises:
        ConfigurationError: if the folder has no results: a page of nothing but "open" would take
            the place of a good one.
    """
    found = any(folder.glob("*.parquet"))
    require(found, "folder", str(folder), f"it has no results of studies; {_MADE_BY}")
    write_text(out, claims_page(folder))


def _line(claim: Claim, kept: Mapping[str, Kept], folder: Path) -> Sequence[str]:
    measured, verdict, time = "not run", "open", ""
    if claim.recipe in kept:
        study = kept[claim.recipe]
        try:
            found, time = claim.measure(study.results), _duration(study.seconds)
        except (LookupError, TypeError, ValueError) as error:  # damaged, or of another version
            raise ConfigurationError(
                f"{folder / claim.recipe}.parquet does not hold what the claim {claim.text!r} is "
                f"measured by ({type(error).__name__}: {error}): make it again; {_MADE_BY}"
            ) from error
        if found is None:
            measured = "not in the results"
        else:
            measured, verdict = str(found), claim.verdict(found)
    words = [claim.text, claim.predicted, measured, verdict, claim.note]
    text, predicted, measured, verdict, note = (word.replace("*", r"\*") for word in words)
    verdict = f"**{verdict}**; {note}" if note else f"**{verdict}**"
    return text, predicted, measured, verdict, f"`{claim.recipe}`", time


def _runs(kept: Mapping[str, Kept]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for study in kept.values():
        about = study.about
        versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        command = shlex.split(str(about["command"]))
        words = shlex.join([*command, "keep=results/theory"])
        rows.append((f"`{words}`", str(len(study.results)), f"{about['created'][:10]}, {versions}"))
    return rows


def _duration(seconds: float) -> str:
    """Return how long one core takes, with two digits."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]
