"""Small pieces of HTML. Text arguments are escaped here; arguments called ``body`` are HTML already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from caloforge.report.style import Drawing

__all__ = ["definition_rows", "details", "figure", "script_data", "section", "table"]


def section(identifier: str, title: str, body: str) -> str:
    """A section with a heading that the navigation can jump to."""
    return (
        f'<section id="{escape(identifier)}" aria-labelledby="{escape(identifier)}-title">\n'
        f'<h2 id="{escape(identifier)}-title">{escape(title)}</h2>\n{body}\n</section>'
    )


def details(title: str, body: str, *, aside: str = "", unfolded: bool = False) -> str:
    """A part that folds."""
    extra = f'<span class="aside">{escape(aside)}</span>' if aside else ""
    state = " open" if unfolded else ""
    return (
        f"<details{state}><summary>{escape(title)}{extra}</summary>\n"
        f'<div class="inside">\n{body}\n</div></details>'
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: bool = False,
    style: str = "",
) -> str:
    """A table whose first column heads its rows; ``numbers`` aligns the other columns to the right."""
    kind = ' class="number"' if numbers else ""
    top = "".join(f'<th scope="col"{kind if i else ""}>{escape(name)}</th>' for i, name in enumerate(head))
    lines = []
    for row in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row[1:])
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>')
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
        f"<figure><div{frame}>"
        f'<img src="{drawing.data_uri()}" width="{drawing.width}" height="{drawing.height}" '
        f'loading="lazy" decoding="async" alt="{escape(drawing.alt)}"></div>\n'
        f'<figcaption>{escape(drawing.caption)} <a href="figures/{name}.pdf">{name}.pdf</a> · '
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
