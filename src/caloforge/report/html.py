"""Small pieces of HTML. Text is escaped here unless it is `Markup`; arguments called ``body`` are HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from caloforge.report.style import Drawing

__all__ = [
    "Markup",
    "bullets",
    "definition_rows",
    "details",
    "explained",
    "figure",
    "markup",
    "note",
    "script_data",
    "scroll",
    "section",
    "table",
]


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def markup(text: str) -> str:
    """The text as HTML unless it is `Markup`; numbers stay with their errors and units."""
    if isinstance(text, Markup):
        return text
    html = escape(text).replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%").replace(" σ", "\u00a0σ")
    return re.sub(r"\bE_(inc|tot)\b", r"E<sub>\1</sub>", html)


def explained(name: str, meaning: str) -> Markup:
    """A name with one line beneath it that says what it means."""
    beneath = f'<span class="meaning">{markup(meaning)}</span>' if meaning else ""
    return Markup(markup(name) + beneath)


def note(text: str) -> str:
    """A paragraph that explains."""
    return f'<p class="note">{markup(text)}</p>'


def bullets(items: Iterable[str], style: str = "") -> str:
    """A list of sentences."""
    label = f' class="{escape(style)}"' if style else ""
    return f"<ul{label}>{''.join(f'<li>{markup(text)}</li>' for text in items)}</ul>"


def section(identifier: str, title: str, body: str) -> str:
    """A section that folds, with a heading that the navigation can jump to."""
    name = escape(identifier)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n<details class="part" open>'
        f'<summary><h2 id="{name}-title">{escape(title)}</h2></summary>\n<div class="body">\n{body}\n</div>'
        "</details>\n</section>"
    )


def details(title: str, body: str, *, aside: str = "", unfolded: bool = False) -> str:
    """A part within a section that folds."""
    extra = f'<span class="aside">{escape(aside)}</span>' if aside else ""
    state = " open" if unfolded else ""
    return (
        f"<details{state}><summary>{escape(title)}{extra}</summary>\n"
        f'<div class="inside">\n{body}\n</div></details>'
    )


def scroll(body: str, label: str) -> str:
    """A frame in which wide content scrolls sideways, so that the page need not."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{body}</div>'


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: bool = False,
    style: str = "",
) -> str:
    """A table whose first column heads its rows; ``numbers`` aligns the other columns to the right.

    Of the style ``stack`` rows become blocks on narrow screens, each cell with its column's name.
    """
    kind = ' class="number"' if numbers else ""
    top = "".join(f'<th scope="col"{kind if i else ""}>{markup(name)}</th>' for i, name in enumerate(head))
    lines = []
    for row in rows:
        cells = "".join(
            f'<td{kind} data-label="{escape(name)}">{markup(cell)}</td>'
            for cell, name in zip(row[1:], head[1:], strict=True)
        )
        lines.append(f'<tr><th scope="row">{markup(row[0])}</th>{cells}</tr>')
    label = f' class="{escape(style)}"' if style else ""
    return (
        f"<table{label}><caption>{escape(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n"
        f"<tbody>\n{chr(10).join(lines)}\n</tbody></table>"
    )


def figure(drawing: Drawing, *, detailed: bool = False) -> str:
    """A figure inside the page, with links to its files beside the page.

    ``detailed`` figures keep a readable size on narrow screens and scroll within their frame.
    """
    frame = ' class="sheet"'
    if detailed:
        frame = ' class="sheet detailed" tabindex="0" role="group" aria-label="figure, scrolls sideways"'
    name = escape(drawing.name)
    return (
        f'<figure style="--width: {drawing.width}px"><div{frame}>'
        f'<img src="{drawing.data_uri()}" width="{drawing.width}" height="{drawing.height}" '
        f'loading="lazy" decoding="async" alt="{escape(drawing.alt)}"></div>\n'
        f'<figcaption>{escape(drawing.caption)} <a href="figures/{name}.pdf">{name}.pdf</a> (vector) · '
        f'<a href="figures/{name}.png">png</a></figcaption></figure>'
    )


def script_data(identifier: str, payload: str) -> str:
    """JSON for the page's script, as `to_script_json` made it."""
    return f'<script type="application/json" id="{escape(identifier)}">{payload}</script>'


def definition_rows(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as flat (key, value) rows; ``settings.seed`` names what was nested."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            rows += definition_rows(item, f"{name}.")
        elif isinstance(item, str | int | float) or item is None:
            rows.append((name, "" if item is None else str(item)))
        else:
            text = json.dumps(item, ensure_ascii=False, default=str)
            rows.append((name, text if len(text) <= 400 else f"{text[:400]} …"))
    return rows
