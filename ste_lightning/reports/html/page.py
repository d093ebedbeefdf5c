"""A page: sections of texts, facts, tables, charts and pictures, written as one HTML file."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ste_lightning.io.template import filled, packaged

__all__ = ["Chart", "Fact", "Gallery", "Page", "Picture", "Section", "Table", "Text", "number"]

_HERE = "ste_lightning.reports.html"


def number(value: Any) -> str:
    """Return a number with four significant digits, anything else as text."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Fact:
    """A number to read first.

    Attributes:
        name, value: as text.
        note: below it, in small letters: a band, a unit.
        state: ``good`` or ``bad`` where the number is judged, which the note must say too.
    """

    name: str
    value: str
    note: str = ""
    state: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption; numbers go to the right.

    Attributes:
        caption: what it shows.
        head: names of the columns.
        rows: their cells.
        folded: whether only the caption is shown until it is opened.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart.

    Attributes:
        title: what it shows.
        note: what to look for, in a sentence; it is read out in place of the picture.
        spec: Vega-Lite's, without size, title and colours of the background.
        numbers: the same as a table, for those who cannot see it, and everyone else.
        wide: whether it takes the page's whole width.
    """

    title: str
    note: str
    spec: Mapping[str, Any]
    numbers: Table | None = None
    wide: bool = False


@dataclass(frozen=True)
class Picture:
    """An image as a data URL.

    Attributes:
        source: ``data:image/png;base64,...``.
        text: below it.
        size: its width in pixels, on the page.
    """

    source: str
    text: str
    size: int = 96


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side."""

    pictures: Sequence[Picture]


Part = Text | Fact | Table | Chart | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what belongs to it; one without parts is left out."""

    title: str
    parts: Sequence[Part] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """All of it.

    Attributes:
        title: of the window, and the first heading.
        lead: the sentence below.
        sections: in order.
        foot: the last line: where the page comes from.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    foot: str

    def html(self, library: str) -> str:
        """Return the page.

        Args:
            library: JavaScript that defines ``vegaEmbed``.
        """
        shown = [section for section in self.sections if section.parts]
        charts: list[Mapping[str, Any]] = []
        body = "\n".join(_section(index, section, charts) for index, section in enumerate(shown))
        links = "".join(
            f'<li><a href="#s{index}">{_text(one.title)}</a></li>'
            for index, one in enumerate(shown)
        )
        pieces = {
            "TITLE": _text(self.title),
            "LEAD": _text(self.lead),
            "LINKS": links,
            "BODY": body,
            "FOOT": _text(self.foot),
            "STYLE": packaged(_HERE, "page.css"),
            "LIBRARY": library if charts else "",
            "CHARTS": json.dumps(charts, separators=(",", ":")).replace("</", "<\\/"),
            "SCRIPT": packaged(_HERE, "page.js") if charts else "",
        }
        return filled(packaged(_HERE, "page.html"), pieces)


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(index: int, section: Section, charts: list[Mapping[str, Any]]) -> str:
    parts: list[str] = []
    group = ""
    for part in section.parts:
        kind = {Fact: "facts", Chart: "charts"}.get(type(part), "")
        if kind != group:
            parts += (["</div>"] if group else []) + ([f'<div class="{kind}">'] if kind else [])
            group = kind
        parts.append(_part(part, charts))
    if group:
        parts.append("</div>")
    inside = "\n".join(parts)
    return f'<section id="s{index}"><h2>{_text(section.title)}</h2>\n{inside}\n</section>'


def _part(part: Part, charts: list[Mapping[str, Any]]) -> str:
    if isinstance(part, Text):
        return f"<p>{_text(part.text)}</p>"
    if isinstance(part, Fact):
        note = f'<span class="note">{_text(part.note)}</span>' if part.note else ""
        return (
            f'<div class="fact {part.state}"><span class="name">{_text(part.name)}</span>'
            f'<span class="value">{_text(part.value)}</span>{note}</div>'
        )
    if isinstance(part, Table):
        table = _table(part)
        if not part.folded:
            return table
        return f"<details><summary>{_text(part.caption)}</summary>{table}</details>"
    if isinstance(part, Gallery):
        return f'<ul class="gallery">{"".join(map(_picture, part.pictures))}</ul>'
    charts.append(part.spec)
    more = ""
    if part.numbers is not None:
        more = f"<details><summary>As numbers</summary>{_table(part.numbers)}</details>"
    return (
        f"<figure{' class=wide' if part.wide else ''}><h3>{_text(part.title)}</h3>"
        f'<div class="chart" id="c{len(charts) - 1}" role="img" '
        f'aria-label="{_text(f"{part.title}: {part.note}")}"></div>'
        f"<figcaption>{_text(part.note)}</figcaption>{more}</figure>"
    )


def _picture(picture: Picture) -> str:
    return (
        f'<li><img src="{_text(picture.source)}" alt="" width="{picture.size}">'
        f"<span>{_text(picture.text)}</span></li>"
    )


def _table(table: Table) -> str:
    right = [
        bool(table.rows) and all(_is_number(row[column]) for row in table.rows)
        for column in range(len(table.head))
    ]
    kinds = [' class="n"' if one else "" for one in right]
    head = "".join(
        f'<th scope="col"{kind}>{_text(name or "note")}</th>'
        for kind, name in zip(kinds, table.head, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{kind or _long(cell)}>{_text(cell)}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    name = _text(table.caption)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<caption>{name}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _long(cell: object) -> str:
    return ' class="long"' if len(str(cell)) > 26 else ""


def _is_number(cell: object) -> bool:
    text = str(cell).strip().replace(",", "")
    return text == "" or text[0].isdigit() or (text[0] in "+-" and text[1:2].isdigit())
