"""One page for each registered quantizer."""

from __future__ import annotations

import inspect
import re

import measured
from quantizer_notes import NOTES, RESULTS
from rule_pages import picture

from ste_lightning.figures.rules import quantizer_figure, staircase_gallery
from ste_lightning.quantizers import quantizer_class, quantizer_names
from ste_lightning.rules import example_quantizers

__all__ = ["example", "names", "pages"]


def names() -> tuple[str, ...]:
    """Return the registered quantizers."""
    return quantizer_names()


def example(name: str) -> str:
    """Return a few lines that use the quantizer."""
    operands = quantizer_class(name).operands
    operand = "weights" if operands == {"weights"} else "activations"
    return f"""import torch
from ste_lightning.quantizers import build

quantizer = build({{"map": {name!r}}}, {operand!r})  # in a policy or a recipe: the same mapping
x = torch.linspace(-2, 2, 64).reshape(8, 8).requires_grad_()
y = quantizer(x)
y.sum().backward()
print(y.unique().numel(), "levels, for example", y.unique()[:3].tolist())
"""


def _sections(name: str) -> tuple[str, str, str]:
    """Return the docstring's text, arguments and source as Markdown."""
    import griffe_docstrings  # of the documentation's own environment

    text = griffe_docstrings.markdown(inspect.getdoc(quantizer_class(name)) or "")
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    text = re.split(r"^(?:Raises:|Source: |Attributes:)", text, flags=re.MULTILINE)[0]
    body, _, arguments = text.partition("\nArgs:\n")
    items = re.sub(r"^ {4}(\w+): ", r"- `\1`: ", arguments, flags=re.MULTILINE)
    items = re.sub(r"^ {8}", "  ", items, flags=re.MULTILINE)
    body = body.replace("|", "&#124;").replace("<", "&lt;")
    return body, items, source.group(1).replace("\n", " ") if source else ""


def _page(name: str) -> str:
    cls = quantizer_class(name)
    body, arguments, source = _sections(name)
    shines, fails = NOTES[name]
    setting, option = RESULTS.get(name, ("", ""))
    result = measured.difference("digits", setting) if setting else ""
    rule = cls.default_rule
    option_text = f"`quantizer={option}`" if option else "none; write the mapping"
    rows = [
        ("For", " and ".join(sorted(cls.operands))),
        ("Default backward rule", f"[{rule}](../rules/{rule}.md)"),
        ("Option of the command line", option_text),
        ("Accuracy, digits", f"{result} (`quantizer={option}`)" if result else "not measured"),
        ("Source", source),
    ]
    table = "\n".join(f"| {key} | {value.replace('|', '&#124;')} |" for key, value in rows)
    return f"""# {name}

{body}

![Staircase and pretended derivative of {name}](images/{name}.png)

Black: what the forward pass computes. Orange: the derivative that the backward pass uses.

| | |
| --- | --- |
{table}

**Good at.** {shines}

**Fails when.** {fails}

## Parameters

{arguments or "None."}

## Example

```python
{example(name)}```
"""


def _index() -> str:
    rows = []
    for name in names():
        cls = quantizer_class(name)
        setting, option = RESULTS.get(name, ("", ""))
        mean = measured.mean("digits", setting)
        operands = " and ".join(sorted(cls.operands))
        shown = f"`{option}`" if option else ""
        rows.append(f"| [{name}]({name}.md) | {operands} | {NOTES[name][0]} | {shown} | {mean} |")
    listed = "\n".join(rows)
    return f"""# Quantizers

A quantizer is a forward map: it rounds numbers to few levels. Each has a default
[backward rule](../rules/index.md), and takes another one: `{{"map": "sign", "rule": "tanh"}}`.
The same name or mapping works in Python, in a policy and in a recipe.

In short: `sign` for one bit, `ternary` or `bitnet` for 1.58 bits, `lsq` for 2, 4 and 8 bits.
[Choose](../choose.md) says more.

![All quantizers](images/quantizers.png)

| quantizer | for | good at | `quantizer=` | digits |
| --- | --- | --- | --- | --- |
{listed}

`quantizer=NAME` sets weights and inputs of a recipe together. Digits: mean test accuracy of a small
CNN with that option over five seeds; its float twin has {measured.mean("digits", "float")} ([results](../results.md)).

From Python: `ste_lightning.quantizers.quantizer_names()`; on the command line
`python -m ste_lightning.rules`.
"""


def pages() -> dict[str, str | bytes]:
    """Return every page and picture, by file."""
    found: dict[str, str | bytes] = {"quantizers/index.md": _index()}
    shown = example_quantizers()
    found["quantizers/images/quantizers.png"] = picture(staircase_gallery(shown))
    for title, quantizer in shown:
        name = title.split()[0]
        found[f"quantizers/{name}.md"] = _page(name)
        found[f"quantizers/images/{name}.png"] = picture(quantizer_figure(title, quantizer))
    return found
