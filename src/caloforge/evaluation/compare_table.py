"""The table of a comparison: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caloforge.evaluation.published import PUBLISHED_NOTE
from caloforge.evaluation.ranking import cell_text
from caloforge.evaluation.results import Estimate
from caloforge.evaluation.results.comparison import Column, ModelComparison

if TYPE_CHECKING:
    from rich.console import Group

__all__ = [
    "PARTS",
    "TableRow",
    "csv_text",
    "markdown",
    "published_rows",
    "rich_tables",
    "table_rows",
]

PARTS = {
    "main": "Quality and speed",
    "more": "Further metrics",
    "separation": "Separation power, mean over layers",
}
"""Headings of the parts of the table."""
GEANT4_ROW = "Geant4 against itself"


@dataclass(frozen=True)
class TableRow:
    """One row: its name, its cells in the order of the columns, which of them are best, and its kind.

    ``kind`` is ``model``, ``floor`` or ``published``.
    """

    name: str
    cells: list[str]
    best: list[bool]
    kind: str


def table_rows(comparison: ModelComparison, part: str) -> tuple[list[Column], list[TableRow]]:
    """Columns and rows of one part of the table; models in the order given, then Geant4 against itself."""
    columns = [c for c in comparison.columns if c.part == part]
    rows = [
        TableRow(
            model.name,
            [_cell(c.key, model.metrics.get(c.key)) for c in columns],
            [c.best == model.name for c in columns],
            "model",
        )
        for model in comparison.models
    ]
    floors = [_cell(c.key, c.floor) for c in columns]
    rows.append(TableRow(GEANT4_ROW, floors, [False] * len(columns), "floor"))
    if part == "main":
        counts = [*(m.showers for m in comparison.models), comparison.reference_showers]
        columns = [Column("showers", "showers", "main", Estimate(math.nan)), *columns]
        rows = [
            TableRow(row.name, [str(n), *row.cells], [False, *row.best], row.kind)
            for n, row in zip(counts, rows, strict=True)
        ]
    return columns, rows


def published_rows(comparison: ModelComparison, columns: Sequence[Column]) -> list[TableRow]:
    """The published rows in the same columns; times are those on a GPU nearest to batches of 100."""
    rows = []
    for result in comparison.published:
        time = result.time("gpu")
        values = dict(result.metrics) | ({} if time is None else {"ms": time[0]})
        cells = [_cell(c.key, Estimate(values[c.key]) if c.key in values else None) for c in columns]
        rows.append(TableRow(result.model, cells, [False] * len(columns), "published"))
    return rows


def _cell(key: str, estimate: Estimate | None) -> str:
    return "–" if estimate is None else cell_text(key, estimate)


def _parts(comparison: ModelComparison) -> Iterator[tuple[str, list[Column], list[TableRow], list[TableRow]]]:
    for part, title in PARTS.items():
        columns, rows = table_rows(comparison, part)
        if columns:
            yield title, columns, rows, published_rows(comparison, columns) if part == "main" else []


def rich_tables(comparison: ModelComparison) -> Group:
    """Tables for the terminal, and the verdict below them; the best of a metric is bold and starred.

    Metrics of the main part are columns, so that published rows fit below; those of the others are rows.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = []
    for title, columns, rows, published in _parts(comparison):
        marked = [
            [f"[bold]{escape(c)}*[/]" if b else escape(c) for c, b in zip(row.cells, row.best, strict=True)]
            for row in rows
        ]
        table = Table(title=title, caption_justify="left")
        if columns[0].part == "main":
            table.add_column("model", overflow="fold")
            for i, column in enumerate(columns):
                widest = max(len(row.cells[i]) + row.best[i] for row in (*rows, *published))
                table.add_column(column.label, justify="right", min_width=widest)  # its heading may wrap
            for row, cells in zip(rows, marked, strict=True):
                table.add_row(escape(row.name), *cells, style="dim" if row.kind == "floor" else None)
            if published:
                table.add_section()
                table.add_row(f"[bold]published in {comparison.published[0].source}:")
                for row in published:
                    table.add_row(escape(row.name), *map(escape, row.cells), style="italic")
                table.caption = PUBLISHED_NOTE
        else:
            table.add_column("metric")
            for row in rows:
                table.add_column(escape(row.name), justify="right")
            for i, column in enumerate(columns):
                table.add_row(escape(column.label), *(cells[i] for cells in marked))
        parts.append(table)
    text = [comparison.headline, *comparison.sentences, *(f"Note: {w}" for w in comparison.warnings)]
    return Group(*parts, Text("\n".join(text)))


def markdown(comparison: ModelComparison) -> str:
    """The tables as Markdown."""
    lines = [f"# {comparison.headline}", "", *(f"* {s}" for s in comparison.sentences), ""]
    for title, columns, rows, published in _parts(comparison):
        lines += [f"## {title}", ""]
        lines.append("| model | " + " | ".join(c.label for c in columns) + " |")
        lines.append("|---|" + "---:|" * len(columns))
        for row in rows:
            cells = [f"**{c}**" if b else c for c, b in zip(row.cells, row.best, strict=True)]
            lines.append(f"| {_pipes(row.name)} | " + " | ".join(cells) + " |")
        for row in published:
            lines.append(f"| *{row.name} (published)* | " + " | ".join(row.cells) + " |")
        lines.append("")
        if published:
            lines += [f"{PUBLISHED_NOTE} Source: {comparison.published[0].source}.", ""]
    lines += [f"* {w}" for w in comparison.warnings]
    return "\n".join(lines).rstrip() + "\n"


def csv_text(comparison: ModelComparison) -> str:
    """One line a number: ``model, kind, metric, value, error, floor, floor_error, best``."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "kind", "metric", "value", "error", "floor", "floor_error", "best"])
    for model in comparison.models:
        for column in comparison.columns:
            e = model.metrics.get(column.key)
            if e is not None:
                numbers = [_digits(x) for x in (e.value, e.error, e.floor, e.floor_error)]
                best = int(column.best == model.name)
                writer.writerow([model.name, "measured", column.key, *numbers, best])
    for result in comparison.published:
        for key, value in result.metrics.items():
            writer.writerow([result.model, "published", key, _digits(value), "", "", "", 0])
        for key, value in result.ms.items():
            writer.writerow([result.model, "published", f"ms_{key}", _digits(value), "", "", "", 0])
    return file.getvalue()


def _digits(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")
