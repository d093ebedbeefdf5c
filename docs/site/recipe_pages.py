"""The page of recipes, from the comments at the top of each."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["pages"]

RECIPES = Path(__file__).parents[2] / "recipes"
IMAGES = Path(__file__).parents[1] / "images"
RESULTS = Path(__file__).parents[2] / "results"
STORED = RESULTS / "theory"
TRACES = {"recurrence", "optimizers"}  # studies that draw what stored results leave out
# studies of which more than the small version is drawn, but not all: what is set
PARTS: dict[str, tuple[str, ...]] = {"window": ("~parts.n256", "base.trials=48")}
# trainings whose picture is of a part of them, as the whole takes hours: what is set
SHORT: dict[str, tuple[str, ...]] = {
    "fashion_mnist_vgg_small": ("data.limit=12000",),
    "rules_compare": ("seed=0", "trainer.max_epochs=8"),
}
# pictures that have another name than their recipe has
_NAMED = {
    "study/recurrence": "recurrence_study",
    "study/oscillation": "oscillation_unit",
    "recurrence": "recurrence",
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


def image(key: str) -> str:
    """Return the picture of a recipe, ``NAME`` or ``study/NAME``, below ``docs/images``."""
    name = key.removeprefix("study/")
    if key in _NAMED or name != key:
        return _NAMED.get(key, name)
    for table in sorted(RESULTS.glob("*.csv")):  # figures of what was trained to its end
        if f"+recipe={name} " in table.read_text(encoding="utf-8"):
            return f"results_{table.stem}"
    return f"recipes/{name}"


def _made(key: str) -> str:
    """Return of what a recipe's picture is, and the command that makes it."""
    name = key.removeprefix("study/")
    if image(key).startswith("results_"):
        return "The stored results: `python -m ste_lightning.results page`"
    command = f"`python docs/figures/recipes.py {key}`"
    if key == name:
        short = " ".join(SHORT.get(name, ()))
        return f"A short run (`{short}`): {command}" if short else command
    if name in TRACES:
        return command
    if name in PARTS:
        return f"A part (`{' '.join(PARTS[name])}`): {command}"
    stored = (STORED / f"{name}.parquet").is_file()
    return f"{'The stored results' if stored else 'Its small version'}: {command}"


def _missing(name: str, text: str) -> str:
    """Return why a recipe has not been run; empty if it has been."""
    if not header(text)[1]["Expected"].startswith("not run here"):
        return ""
    data = {"cifar10": "CIFAR-10", "imagenet": "ImageNet"}.get(name.partition("_")[0], "its data")
    return f"{name} has not been run here, for want of {data}; with the data it draws its curves"


def _not_run() -> str:
    """Return the names of the recipes that have not been run."""
    files = sorted(RECIPES.glob("*.yaml"))
    found = [f for f in files if _missing(f.stem, f.read_text(encoding="utf-8"))]
    return ", ".join(f"`{file.stem}`" for file in found)


def _picture(file: Path) -> list[str]:
    """Return the lines that show a recipe's figure, or that it was not run."""
    key = file.relative_to(RECIPES).with_suffix("").as_posix()
    text = file.read_text(encoding="utf-8")
    if not re.search(r"^ *figures?:(?! null)", text, re.MULTILINE):
        return ["", "*It draws no figure; its table and report.html show the result.*"]
    if not (IMAGES / f"{image(key)}.png").is_file():
        return ["", f"*No picture: {_missing(key, text) or 'see its report.html'}.*"]
    return [
        "",
        f"![What the recipe {file.stem} draws](images/{image(key)}.png)",
        "",
        f"*{_made(key)}*",
    ]


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

Not run here, because their data sets (CIFAR-10, ImageNet) cannot be had here: {_not_run()}. What they
should reach is what their papers say, and stands beside them; nobody has checked it with this package.

{train}

## Studies

`small=true` is a quick first look: smaller n and fewer trials.

{study}
"""
    }
