"""One page for each registered backward rule."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import io

import measured
from rule_notes import NOTES

from ste_lightning import functional as SF
from ste_lightning.figures.rules import gallery, rule_figure
from ste_lightning.functional.estimator.surrogate import _ALIASES
from ste_lightning.rules import example_rules
from ste_lightning.theory import population, simulate
from ste_lightning.theory.engine.families import family_of

__all__ = ["example", "names", "pages", "picture"]

SAMPLES = (32, 64, 128)
SIMULATION = "simulate(n=32, m=4, samples=N, trials=128, steps=1000, {argument}={rule!r})"


def names() -> tuple[str, ...]:
    """Return the registered rules."""
    return SF.surrogate_names()


def picture(figure: object) -> bytes:
    """Return a figure as a small PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)  # type: ignore[attr-defined]
    return file.getvalue()


@functools.cache
def recovery(rule: SF.Surrogate) -> tuple[float, ...]:
    """Return the share of students that find their teacher, for each of ``SAMPLES``."""
    if family_of(rule) is None:
        return ()  # only compiled rules are quick enough for a page
    given = {_argument(rule): rule}
    runs = (simulate(n=32, m=4, samples=N, trials=128, steps=1000, **given) for N in SAMPLES)
    return tuple(float(run.last_recovery.double().mean()) for run in runs)


def _argument(rule: SF.Surrogate) -> str:
    """Return which rule of the two-layer network it can be: the step's, or the weights'."""
    return "rule" if "activations" in rule.operands else "weight_rule"


def _descends(rule: SF.Surrogate) -> str:
    if "activations" not in rule.operands:
        return "The theory asks this of the rule of activations, and this one is for weights."
    return population.can_descend(rule).reason


def example(name: str) -> str:
    """Return a few lines that use the rule."""
    rule = SF.rule_class(name)
    call = "SF.step(x, rule={})" if "weights" not in rule.operands else "SF.sign(x, rule={})"
    given = repr(name)
    if name == "custom":
        given += ", derivative=lambda x: 1 / torch.cosh(x)"
    module = "" if name == "custom" else _specification(name)
    return (
        "import torch\nfrom ste_lightning import functional as SF\n\n"
        "x = torch.linspace(-2, 2, 5, requires_grad=True)\n"
        f"{call.format(given)}.sum().backward()\n"
        f"print(x.grad)  # f' at -2, -1, 0, 1, 2\n{module}"
    )


def _specification(name: str) -> str:
    weights = "weights" in SF.rule_class(name).operands
    kind, operand = ("sign", "weights") if weights else ("step", "activations")
    spec = {"map": kind, "rule": name}
    return (
        "\nfrom ste_lightning.quantizers import build\n\n"
        f"build({spec!r}, {operand!r})  # in a policy or a recipe: the same mapping\n"
    )


def _page(rule: SF.Surrogate) -> str:
    cls, name = type(rule), rule.name
    shines, fails = NOTES[name]
    aliases = sorted(alias for alias, meant in _ALIASES.items() if meant == name)
    rows = [
        ("Parameters", ", ".join(_parameters(cls)) or "none"),
        ("Other names", ", ".join(f"`{alias}`" for alias in aliases) or "none"),
        ("For", " and ".join(sorted(cls.operands))),
        ("Kept for the backward pass", _KEPT.get(cls.remembers, cls.remembers)),
        ("Source", cls.paper),
        ("Accuracy, digits", measured.difference("digits", f"rule {name}") or "not measured"),
        ("Can it descend?", _descends(rule)),
    ]
    table = "\n".join(f"| {key} | {value.replace('|', '&#124;')} |" for key, value in rows)
    doc = (inspect.getdoc(cls) or "").replace("``", "`").split("\n\n", 1)
    more = doc[1] if len(doc) > 1 else ""
    more = "" if more.startswith(("Raises", "Args")) else more.split("\n\nRaises")[0]
    return f"""# {name}

```
{cls.equation}
```

![Forward map, virtual forward and derivative of {name}](images/{name}.png)

Black: what the forward pass computes. Orange: f', which the backward pass uses in place of the
slope. Blue: the virtual forward, the function whose slope is f'. Training behaves as if the network
had applied it, up to a constant.

{_without_roles(more)}

| | |
| --- | --- |
{table}

**Good at.** {shines}

**Fails when.** {fails}

{_recovery_section(rule)}
## Example

```python
{example(name)}```
"""


def _recovery_section(rule: SF.Surrogate) -> str:
    shares = recovery(rule)
    if not shares:
        return ""
    return f"""## Recovery of a teacher

Share of 128 students (n = 32 weights, m = 4 hidden units) that find their teacher's signs from N
samples: `{SIMULATION.format(argument=_argument(rule), rule=rule.name)}`.

| N = {" | N = ".join(map(str, SAMPLES))} |
| {"--- | " * len(SAMPLES)}
| {" | ".join(f"{share:.2f}" for share in shares)} |
"""


_KEPT = {"mask": "one bit for each element", "input": "the input", "nothing": "nothing"}


def _without_roles(text: str) -> str:
    import griffe_docstrings

    return griffe_docstrings.markdown(text)


def _parameters(cls: type[SF.Surrogate]) -> list[str]:
    missing = (dataclasses.MISSING, None)
    return [
        f"`{field.name}`" if field.default in missing else f"`{field.name} = {field.default:g}`"
        for field in dataclasses.fields(cls)
    ]


def _index() -> str:
    rows = []
    for rule in example_rules():
        name, mean = rule.name, measured.mean("digits", f"rule {rule.name}")
        shares = " | ".join(f"{share:.2f}" for share in recovery(rule)) or " | | "
        equation = rule.equation.removeprefix("f'(x) = ").replace("|", "&#124;")
        rows.append(f"| [{name}]({name}.md) | {equation} | {shares} | {mean} |")
    listed = "\n".join(rows)
    return f"""# Backward rules

A backward rule is the function f' that the backward pass uses in place of a slope that does not
exist. [What is a straight-through estimator?](../concepts/straight_through.md) says why one is
needed, and [what a backward rule changes](../concepts/backward_rules.md) what it does.

In short: take `clipped` first. It is the default of `sign`, costs the least, and no other rule is
significantly better on the [digits](../results.md). Choose `triangular`, `approx` or `swish` where
samples are few. `relu` belongs to the theory.

![All backward rules](images/rules.png)

| rule | f'(x) | recovery at N = 32 | 64 | 128 | digits |
| --- | --- | --- | --- | --- | --- |
{listed}

Recovery: share of 128 students with n = 32, m = 4 that find their teacher from N samples,
`{SIMULATION.format(argument="rule", rule="NAME")}`. Digits: mean test accuracy of a binary CNN over five seeds, the
rule on the activations ([results](../results.md)).

From Python: `ste_lightning.functional.surrogate_names()`; on the command line
`python -m ste_lightning.rules`, with `--plot DIR` for the pictures.
"""


def pages() -> dict[str, str | bytes]:
    """Return every page and picture, by file."""
    found: dict[str, str | bytes] = {"rules/index.md": _index()}
    found["rules/images/rules.png"] = picture(gallery(example_rules()))
    for rule in example_rules():
        found[f"rules/{rule.name}.md"] = _page(rule)
        found[f"rules/images/{rule.name}.png"] = picture(rule_figure(rule))
    return found
