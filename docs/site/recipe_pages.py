"""The page of recipes, from the comments at the top of each."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["pages"]

RECIPES = Path(__file__).parents[2] / "recipes"
IMAGES = Path(__file__).parents[1] / "images"
# pictures that other pages show, too: study or training -> file and the command that makes it
_ELSEWHERE = {
    **{
        f"study/{name}": (name, f"python -m ste_lightning.study +recipe={name}")
        for name in (
            "gap",
            "hidden_units",
            "normalization",
            "optimizers",
            "phase_diagram",
            "window",
        )
    },
    "study/recurrence": ("recurrence_study", "python -m ste_lightning.study +recipe=recurrence"),
    "recurrence": ("recurrence", "python -m ste_lightning.train +recipe=recurrence"),
    "digits_cnn": ("results_digits", "python -m ste_lightning.results page"),
    "mnist5000_cnn": ("results_mnist5000", "python -m ste_lightning.results page"),
}
_KEY = re.compile(r"^(Shows|Source|Published|Command|Expected|Time|Hardware): *(.*)$")


def header(text: str) -> tuple[str, dict[str, str]]:
    """Return a recipe's first sentence and its entries ``Shows``, ``Source`` and so on."""
    title, entries, key = "", {}, ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words = line.lstrip("#").strip()
        found = _KEY.match(words)
        if found:
            key, words = found.groups()
        if key and (found or key != "Command"):  # further lines say what else one may set
            entries[key] = f"{entries.get(key, '')} {words}".strip()
        elif words and not key:
            title = f"{title} {words}".strip()
    return title, entries


def _picture(file: Path) -> list[str]:
    """Return the lines that show a recipe's figure; nothing where none has been drawn."""
    name = file.stem
    key = f"study/{name}" if file.parent.name == "study" else name
    own = IMAGES / "recipes" / f"{name}.png"
    if key in _ELSEWHERE:
        image, command = _ELSEWHERE[key]
    elif own.is_file():
        image, command = f"recipes/{name}", f"python docs/figures/recipes.py {name}"
    else:
        return []
    return ["", f"![What the recipe {name} draws](images/{image}.png)", "", f"*`{command}`*"]


def _entry(file: Path) -> str:
    title, entries = header(file.read_text(encoding="utf-8"))
    lines = [f"### {file.stem}", "", title, ""]
    for key in ("Shows", "Expected", "Published", "Time", "Hardware", "Source"):
        if key in entries:
            lines += [f"- **{key}.** {entries[key].replace('*', chr(92) + '*')}"]
    command = entries.get("Command", "").split(" --multirun")[0]
    match = re.match(r"(python -m \S+ \+recipe=\S+(?: [\w.]+=\S+)*)", command)
    if match:
        lines += ["", "```sh", match[1], "```"]
    lines += _picture(file)
    return "\n".join(lines) + "\n"


# what a reader can run in a minute comes first, what needs a GPU for days last
_ORDER = ("teacher_student", "recurrence", "sample_size", "non_gaussian", "digits", "rules_compare",
          "mnist5000", "fashion_mnist", "text", "cifar10", "imagenet")  # fmt: skip


def _place(file: Path) -> tuple[int, str]:
    """Return where a training stands on the page; one that is new comes last."""
    groups = [i for i, beginning in enumerate(_ORDER) if file.stem.startswith(beginning)]
    return min(groups, default=len(_ORDER)), file.stem


def pages() -> dict[str, str]:
    """Return the page of recipes."""
    train = "\n".join(_entry(file) for file in sorted(RECIPES.glob("*.yaml"), key=_place))
    study = "\n".join(_entry(file) for file in sorted((RECIPES / "study").glob("*.yaml")))
    return {
        "recipes.md": f"""# Recipes

A recipe is a small YAML file in `recipes/` that sets up one experiment. There are two kinds:

- `python -m ste_lightning.train +recipe=NAME` trains **one network** (or a sweep over a few) with
  Lightning, and reports it.
- `python -m ste_lightning.study +recipe=NAME` runs **many small simulations** of the theory, cell by
  cell, and draws one figure of them. It goes on where it was stopped.

Some names exist in both, such as `recurrence`: the first is one experiment with a picture, the
second a grid of 64 data sets for each noise and N. Every recipe says what to expect; a run whose
result lies outside is marked with (!).

The folder of a training, `outputs/NAME/DATE`, holds the settings, the metrics, the checkpoints and
the figures. Change a setting by `key=value`; `--cfg job` prints them all. `seed=1`
is another seed (of a study: `base.seed=1`).

## Trained networks

{train}

## Studies

`small=true` is a quick first look: smaller n and fewer trials.

{study}
"""
    }
