"""Docstrings as Markdown: Sphinx roles become code, LaTeX becomes MathML, which needs no script."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe
from latex2mathml.converter import convert

_ROLE = re.compile(r":(?:class|func|meth|data|mod|attr|exc):`(~?)([^`]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(r"^([ ]*)\.\. math::((?:.*\n)(?:(?:\1[ ]+.*)?\n)*?)(?=\1?\S|\Z)", re.MULTILINE)
_STAR = re.compile(r"(?<![`*])\b(\w+)\*(?!\*)")
_TICKS = re.compile(r"``([^`\n]+)``")


def _role(match: re.Match[str]) -> str:
    short, name = match[1], match[2]
    return f"`{name.rsplit('.', 1)[-1] if short else name}`"


def _block(match: re.Match[str]) -> str:
    formula = " ".join(textwrap.dedent(match[2]).split())
    return f"{match[1]}{convert(formula, display='block')}\n\n"


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    text = _BLOCK.sub(_block, text + "\n").rstrip("\n")
    text = _INLINE.sub(lambda match: convert(" ".join(match[1].split())), text)
    lines = [
        line if line.startswith("    ") or "`" in line else _STAR.sub(r"\1\\*", line)
        for line in text.split("\n")
    ]
    text = "\n".join(lines)
    return _TICKS.sub(r"`\1`", _ROLE.sub(_role, text))


class Docstrings(griffe.Extension):
    """Applied to every object that the reference shows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
