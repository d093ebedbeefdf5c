"""The page of all results tables, generated from plans and tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

from ste_lightning.figures.training import comparison
from ste_lightning.io.whole_file import write_text, written_whole
from ste_lightning.running.results.compared import (
    SIGNIFICANT,
    Line,
    Verdict,
    holm,
    judged,
    lines_of,
    paired,
)
from ste_lightning.running.results.plan import Plan, read_plan
from ste_lightning.running.results.rows import Row, read_rows
from ste_lightning.running.sweep_table import markdown_rows

__all__ = ["page", "write_page"]

_HEAD = """# Results

Made from the tables in [`results/`](../results) by `python -m ste_lightning.results page`; do not
edit. `python -m ste_lightning.results train` trains what the tables miss: a plan (`NAME.yaml`)
says which settings, its table (`NAME.csv`) has a row for each run, with the command that repeats
it. Means stand with 95 % intervals of Student's t over seeds. "Against twin" is the mean
difference to the float network of equal seeds and epochs (or to the twin that a text names), with
the interval and the p value of the paired t test (of the sign test where all differences are
equal). Bytes are those of the packed file, ms one sample through the packed network on one
thread; they and the seconds of training, which ran side by side, are medians over runs.
"""


def page(folder: Path, images: Path | None = None) -> str:
    """Return the page in Markdown, and draw its figures.

    Args:
        folder: with plans and tables.
        images: where the figures go; None: none are drawn.
    """
    plans = [read_plan(path) for path in sorted(folder.glob("*.yaml"))]
    return "\n".join([_HEAD, *(_section(plan, images) for plan in plans)])


def write_page(folder: Path, out: Path) -> None:
    """Write the page to ``out`` and its figures into ``images`` beside it."""
    write_text(out, page(folder, out.parent / "images"))


def _section(plan: Plan, images: Path | None) -> str:
    rows = read_rows(plan.table)
    lines = lines_of(plan, rows)
    text = [f"## {plan.title}\n"]
    if plan.text:
        text.append(f"{plan.text}\n")
    done = sum(line.value.runs for line in lines)
    text.append(
        f"{done} of {len(plan.jobs)} runs{_spent(lines)}. {_processors(lines)}".rstrip() + "\n"
    )
    text += [f"- {one}" for one in judged(plan, lines)]
    if plan.goals:
        text.append("")
    if not lines:
        return "\n".join(text)
    text.append(_table(lines))
    twins = {setting.twin for setting in plan.settings if setting.twin is not None}
    if len(twins) == 1:  # otherwise tasks or networks differ
        quantized = [line for line in lines if line.twin is not None]
        groups = {"of the quantized settings": quantized}
        if plan.rivals:
            rivals = [line for line in quantized if fnmatch(line.setting, plan.rivals)]
            groups[f"of the settings `{plan.rivals}`"] = rivals
        text += [f"{said}\n" for among, ones in groups.items() if (said := _winner(ones, among))]
    if images is not None:
        name = f"results_{plan.path.stem}.png"
        figure = comparison(
            [{"setting": r["setting"], plan.metric: float(r["value"])} for r in rows],
            metric=plan.metric,
            title=plan.title,
        )
        with written_whole(images / name) as part:
            figure.savefig(part, dpi=80, format="png")
        text.append(f"![{plan.title}: {plan.metric} by setting](images/{name})\n")
    return "\n".join(text)


def _spent(lines: Sequence[Line]) -> str:
    seconds = sum(float(row["training_seconds"]) for line in lines for row in line.rows)
    spent = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    return f", {spent} of training in all" if lines else ""


def _processors(lines: Sequence[Line]) -> str:
    names = sorted({str(row["processor"]) for line in lines for row in line.rows})
    return f"Processor: {', '.join(names)}." if names else ""


def _table(lines: Sequence[Line]) -> str:
    rows: list[Row] = [
        {
            "setting": line.setting,
            "runs": line.value.runs,
            "mean": line.value,
            "against twin": line.twin.difference if line.twin else "",
            "p": _p(line.twin),
            "bytes": _middle(line, "bytes"),
            "ms": _middle(line, "ms"),
            "training, s": _middle(line, "training_seconds"),
        }
        for line in lines
    ]
    return markdown_rows(rows) + "\n"


def _middle(line: Line, column: str) -> str:
    numbers = [float(row[column]) for row in line.rows if row.get(column)]
    if not numbers:
        return ""
    middle = median(numbers)
    return f"{middle:,.0f}" if column == "bytes" else f"{middle:.3g}"


def _p(verdict: Verdict | None) -> str:
    return "" if verdict is None or verdict.p is None else f"{verdict.p:.2g}"


def _winner(lines: Sequence[Line], among: str) -> str:
    """Say which setting is best, and against which others that is significant."""
    others = [line for line in lines if line.value.runs > 1]
    if len(others) < 3:
        return ""
    best = max(others, key=lambda line: line.value.mean)
    verdicts = {line.setting: paired(best.rows, line.rows) for line in others if line is not best}
    values = {name: v.p for name, v in verdicts.items() if v is not None and v.p is not None}
    below = [name for name, p in holm(values).items() if p < SIGNIFICANT]
    if not below:
        said = "the paired test finds it significantly better than none of the others"
    elif len(below) == len(values):
        said = "significantly better than all others"
    else:
        said = f"significantly better than {', '.join(below)}, not than the others"
    return (
        f"Highest mean {among}: **{best.setting}**; {said} (paired t tests over "
        f"equal seeds, Holm's correction, level {SIGNIFICANT})."
    )
