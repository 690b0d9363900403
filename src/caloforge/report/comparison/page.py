"""The page of a comparison: which model is nearest, which is fastest, and the figures that show it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from caloforge.errors import DataError
from caloforge.evaluation.comparison.published import PUBLISHED_NOTE
from caloforge.evaluation.comparison.table import PARTS, TableRow, published_rows, table_rows
from caloforge.evaluation.results.comparison import Column, ModelComparison
from caloforge.evaluation.verdict.words import number
from caloforge.report.comparison.figures import draw_heat_map, draw_plane, draw_posterior, draw_separations
from caloforge.report.comparison.overlays import draw_distributions, draw_mean_profiles
from caloforge.report.comparison.slices import draw_slices
from caloforge.report.html import (
    Markup,
    bullets,
    definition_rows,
    details,
    figure,
    markup,
    note,
    scroll,
    table,
)
from caloforge.report.page import fill_template
from caloforge.report.style import Drawing, require_drawing_packages
from caloforge.runtime.files import whole_file
from caloforge.runtime.provenance import provenance

__all__ = ["PAGE_FILE", "write_comparison"]

PAGE_FILE = "compare.html"

TABLE_NOTES = {
    "main": "Errors are one standard deviation: over trainings, over resamplings, or of the validation "
    "sample. A value in bold with an asterisk is better than every other model’s by more than two standard "
    "deviations of the difference; times count as known to 5 %. AUC 0.5: cannot be told apart from Geant4.",
    "more": "Divergences and distances are better when small, precision, recall, density and coverage when "
    "near 1.",
    "separation": "0 where two histograms agree, 1 where they do not overlap. The last column is what "
    "chance gives.",
}


def write_comparison(
    comparison: ModelComparison,
    out: str | os.PathLike[str],
    *,
    title: str | None = None,
    overwrite: bool = True,
) -> Path:
    """Write ``compare.html`` and its ``figures/*.pdf``, ``*.png`` into a folder; the page needs no network.

    Args:
        comparison: with its evaluations, as `compare` returns it and `read_comparison` reads it.
        out: folder; it is made where it does not exist.
        title: heading of the page.
        overwrite: replace a page that is there already.

    Returns:
        The path of ``compare.html``.

    Raises:
        DataError: evaluations are missing, or ``out`` cannot be written or holds a page that must stay.
        MissingDependencyError: matplotlib or mplhep is not installed.
    """
    folder = Path(out)
    page = folder / PAGE_FILE
    missing = [m.name for m in comparison.models if m.name not in comparison.evaluations]
    if missing:
        raise DataError(
            f"the comparison lacks the evaluations of {', '.join(missing)}; read it with read_comparison"
        )
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the comparison")
    if page.exists() and not overwrite:
        raise DataError(f"{page} exists; choose another folder or allow overwriting (--overwrite)")
    require_drawing_packages()
    try:
        text = _render(comparison, folder / "figures", title)
        with whole_file(page) as file:
            file.write(text.encode())
    except OSError as error:
        raise DataError(f"cannot write the comparison into {folder}: {error}") from error
    return page


def _render(comparison: ModelComparison, figures: Path, title: str | None) -> str:
    evaluations = comparison.evaluations
    plane, heat = draw_plane(comparison, figures), draw_heat_map(comparison, figures)
    separations, profiles = draw_separations(evaluations, figures), draw_mean_profiles(evaluations, figures)
    whole, layers = draw_distributions(evaluations, figures)
    made = provenance("compare-page")
    parts = [
        ("verdict", "Verdict", _verdict(comparison)),
        ("numbers", "The numbers", "\n".join(_part(comparison, part) for part in PARTS)),
        ("speed", "Quality and speed", _figures([plane])),
        ("posterior", "One network for all", _figures([draw_posterior(comparison, figures)])),
        ("chance", "Distance from chance", _figures([heat])),
        ("distributions", "Distributions", _distributions(whole, layers)),
        ("profiles", "Profiles", _figures([profiles])),
        ("layers", "Separation by layer", _figures([separations])),
        ("slices", "By energy and direction", _figures(draw_slices(evaluations, figures))),
        ("warnings", "Warnings", _warnings(comparison)),
        ("provenance", "Settings and origin", _provenance(comparison)),
    ]
    return fill_template(
        title or f"{len(comparison.models)} models against Geant4",
        _subtitle(comparison),
        parts,
        str(made.get("time_utc", "")),
    )


def _subtitle(comparison: ModelComparison) -> str:
    counts = sorted({m.showers for m in comparison.models})
    showers = number(counts[0]) if len(counts) == 1 else f"{number(counts[0])} to {number(counts[-1])}"
    mesh = str(comparison.mesh.get("kind", "")).replace("-", " ")
    return (
        f"{', '.join(m.name for m in comparison.models)}: {showers} showers each, judged against "
        f"{number(comparison.reference_showers)} of Geant4 on a {mesh} mesh."
    )


def _verdict(comparison: ModelComparison) -> str:
    first = f'<p class="headline">{escape(comparison.headline)}</p>'
    html = f'<div class="verdict level-{comparison.level}">{first}</div>\n{bullets(comparison.sentences)}'
    judged = [(m.name, m.verdict) for m in comparison.models if m.verdict is not None]
    rows = [(name, verdict.headline, verdict.giveaway or "nothing beyond chance") for name, verdict in judged]
    if not rows:
        return html
    return html + table("Model by model", ("Model", "Against Geant4", "What gives it away"), rows)


def _warnings(comparison: ModelComparison) -> str:
    items = bullets(comparison.warnings)
    return f'<div class="warnings" role="note">{items}</div>' if comparison.warnings else ""


def _part(comparison: ModelComparison, part: str) -> str:
    columns, rows = table_rows(comparison, part)
    if not columns:
        return ""
    published = published_rows(comparison, columns) if part == "main" else []
    body = _table(PARTS[part], columns, rows, published) if part == "main" else _turned(part, columns, rows)
    html = scroll(body, PARTS[part]) + note(TABLE_NOTES[part])
    if published:
        html += note(f"{PUBLISHED_NOTE} Source: {comparison.published[0].source}.")
    return html


def _table(
    caption: str, columns: Sequence[Column], rows: Sequence[TableRow], published: Sequence[TableRow]
) -> str:
    """One table: models, Geant4 against itself, and below a rule what was published."""
    head = "".join(
        f'<th scope="col" class="number" style="overflow-wrap: normal">{escape(c.label)}</th>'
        for c in columns
    )
    soft = "color: var(--soft)"
    bodies = [
        _rows([row for row in rows if row.kind == "model"]),
        _rows([row for row in rows if row.kind == "floor"], soft),
    ]
    if published:
        rule = (
            f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}" style="padding-top: 0.9rem; '
            'border-bottom: 2px solid var(--line)">Published by the CaloChallenge, not measured here'
            "</th></tr>\n"
        )
        bodies.append(_rows(published, f"{soft}; font-style: italic", rule))
    return (
        f'<table style="font-size: 0.84rem"><caption>{escape(caption)}</caption>\n'
        f'<thead><tr><th scope="col">Model</th>{head}</tr></thead>\n' + "\n".join(bodies) + "\n</table>"
    )


def _turned(part: str, columns: Sequence[Column], rows: Sequence[TableRow]) -> str:
    """The table with one metric a row, for many metrics."""
    lines = [(c.label, *(_value(row, i) for row in rows)) for i, c in enumerate(columns)]
    return table(PARTS[part], ("Metric", *(row.name for row in rows)), lines, numbers=True)


def _value(row: TableRow, i: int) -> str:
    return Markup(f"<strong>{escape(row.cells[i])}*</strong>") if row.best[i] else row.cells[i]


def _rows(rows: Iterable[TableRow], style: str = "", first: str = "") -> str:
    lines = []
    for row in rows:
        cells = "".join(f'<td class="number">{markup(_value(row, i))}</td>' for i in range(len(row.cells)))
        lines.append(f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>')
    look = f' style="{style}"' if style else ""
    return f"<tbody{look}>\n{first}{chr(10).join(lines)}\n</tbody>"


def _figures(drawings: Iterable[Drawing | None]) -> str:
    return "\n".join(figure(drawing, detailed=True) for drawing in drawings if drawing is not None)


def _distributions(whole: Sequence[Drawing], layers: Sequence[Drawing]) -> str:
    text = (
        "Fractions of all entries, those outside the axis included. The grey band of a ratio is Geant4’s "
        "statistical error, thin lines the models’. Neighbouring bins are joined for drawing where entries "
        "are few, and the outermost 0.1 % at each end are left out. Ratios up to ± 50 % are drawn where "
        "Geant4 is known to 30 %."
    )
    html = note(text) + _figures(whole)
    if layers:
        title = "Layers where 10 %, half and 90 % of the energy are reached"
        html += "\n" + details(title, _figures(layers), unfolded=len(whole) == 0)
    return html


def _provenance(comparison: ModelComparison) -> str:
    rows = [
        (m.name, str(m.showers), m.file or "in memory", f"{m.name}/metrics.json") for m in comparison.models
    ]
    rows.insert(0, ("Geant4", str(comparison.reference_showers), comparison.reference or "in memory", ""))
    html = table("Files", ("Sample", "Showers", "File", "All its numbers"), rows)
    body = table("Comparison", ("Setting", "Value"), definition_rows(comparison.provenance))
    html += details("How the models were compared", body)
    for model in comparison.models:
        found = definition_rows(comparison.evaluations[model.name].provenance.get("generated") or {})
        body = table(model.name, ("Setting", "Value"), found) if found else "<p>Nothing is recorded.</p>"
        html += details(f"Origin of {model.name}", body)
    return html
