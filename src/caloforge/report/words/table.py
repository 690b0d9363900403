"""The table of a comparison: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from caloforge.evaluation.results import Column, Estimate, ModelComparison
from caloforge.report.words.columns import cell_text, floor_text
from caloforge.report.words.rows import display_scale

__all__ = [
    "PARTS",
    "PUBLISHED_NOTE",
    "TableRow",
    "comparison_tables",
    "csv_text",
    "markdown",
    "published_rows",
    "table_rows",
]

PARTS = {
    "main": "Quality and speed",
    "more": "Further metrics",
    "separation": "Separation power, mean over layers",
}
"""Headings of the parts of the table."""
GEANT4_ROW = "Geant4 against itself"
PUBLISHED_NOTE = (
    "Published rows were not measured here: 100,000 showers of the CaloChallenge, large classifiers, times "
    "of its GPU. Measured rows of few showers and quick classifiers must not be ranked against them; for "
    "that use the preset calochallenge on the challenge's files."
)


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
    floors = [floor_text(c.key, c.floor) for c in columns]
    rows.append(TableRow(GEANT4_ROW, floors, [False] * len(columns), "floor"))
    if part == "main":
        counts = [*(m.showers for m in comparison.models), comparison.reference_showers]
        columns = [
            Column(key="showers", label="showers", part="main", floor=Estimate(value=math.nan)),
            *columns,
        ]
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
        cells = [_published(c.key, values[c.key]) if c.key in values else "–" for c in columns]
        rows.append(TableRow(result.model, cells, [False] * len(columns), "published"))
    return rows


def _published(key: str, value: float) -> str:
    """A published value with the digits that it was published with."""
    return f"{value:.3f}" if key.startswith("auc_") else f"{display_scale(key) * value:.4g}".replace("-", "−")


def _cell(key: str, estimate: Estimate | None) -> str:
    return "–" if estimate is None else cell_text(key, estimate)


def _parts(comparison: ModelComparison) -> Iterator[tuple[str, list[Column], list[TableRow], list[TableRow]]]:
    for part, title in PARTS.items():
        columns, rows = table_rows(comparison, part)
        if columns:
            yield title, columns, rows, published_rows(comparison, columns) if part == "main" else []


def comparison_tables(comparison: ModelComparison) -> Group:
    """Tables for the terminal, one metric a row, and the verdict below; the best are bold and starred."""
    parts: list[Table | Text] = []
    for title, columns, rows, published in _parts(comparison):
        table = Table(title=title)
        table.add_column("metric")
        for row in rows:
            table.add_column(escape(row.name), justify="right")
        for i, column in enumerate(columns):
            cells = [f"[bold]{escape(r.cells[i])}*[/]" if r.best[i] else escape(r.cells[i]) for r in rows]
            table.add_row(escape(column.label), *cells)
        parts.append(table)
        if published:
            parts.append(_published_table(comparison, columns, published))
    text = [comparison.headline, *comparison.sentences, *(f"Note: {w}" for w in comparison.warnings)]
    return Group(*parts, Text("\n".join(text)))


def _published_table(
    comparison: ModelComparison, columns: Sequence[Column], published: Sequence[TableRow]
) -> Table:
    """The published rows, in those of the columns that have published values."""
    table = Table(title="Published, not measured here", caption_justify="left")
    table.caption = f"{PUBLISHED_NOTE} Source: {comparison.published[0].source}."
    shown = [i for i in range(len(columns)) if any(row.cells[i] != "–" for row in published)]
    table.add_column("model")
    for i in shown:
        table.add_column(columns[i].label, justify="right")
    for row in published:
        table.add_row(escape(row.name), *(row.cells[i] for i in shown), style="italic")
    return table


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
