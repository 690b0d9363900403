"""The page of a comparison: which model is nearest, which is fastest, and the figures that show it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from caloforge.detector import mesh_from_dict
from caloforge.errors import DataError
from caloforge.evaluation.results import ModelComparison
from caloforge.report.figures.comparison import draw_heat_map, draw_posterior, draw_slices
from caloforge.report.figures.deciding import draw_deciding
from caloforge.report.figures.histograms import draw_distributions
from caloforge.report.figures.images import draw_side_views
from caloforge.report.figures.neighbourhoods import draw_neighbourhoods
from caloforge.report.figures.profiles import draw_model_profiles, draw_model_separations
from caloforge.report.figures.quality_speed import draw_plane
from caloforge.report.folder import figure_files, figures_of
from caloforge.report.judges import compared_neighbourhoods
from caloforge.report.page import page_path, write_page
from caloforge.report.tables import Cell, Table, settings
from caloforge.report.words.table import PARTS, PUBLISHED_NOTE, TableRow, published_rows, table_rows
from caloforge.report.words.text import number
from caloforge.runtime.provenance import provenance

__all__ = ["PAGE_FILE", "write_comparison"]

PAGE_FILE = "compare.html"


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
        MissingDependencyError: jinja2, matplotlib or mplhep is not installed.
    """
    missing = [m.name for m in comparison.models if m.name not in comparison.evaluations]
    if missing:
        raise DataError(
            f"the comparison lacks the evaluations of {', '.join(missing)}; read it with read_comparison"
        )
    page = page_path(out, PAGE_FILE, "comparison", overwrite=overwrite)
    with figures_of(page) as (figures, written):
        values = _values(comparison, figures)
        values["title"] = title or f"{len(comparison.models)} models against Geant4"
        write_page(page, "compare.html", values)
        written += figure_files(drawing for part in values["drawings"].values() for drawing in part)
    return page


def _values(comparison: ModelComparison, figures: Path) -> dict[str, Any]:
    """What the template ``compare.html`` uses; draws the figures."""
    evaluations = comparison.evaluations
    means = {name: e.mean_shower for name, e in evaluations.items()}
    true = next(iter(means.values()))["reference"]
    made = {name: found["generated"] for name, found in means.items()}
    whole, by_layer = draw_distributions(evaluations, figures)
    return {
        "comparison": comparison,
        "subtitle": _subtitle(comparison),
        "time": provenance("compare-page").get("time_utc", ""),
        "verdicts": _verdicts(comparison),
        "models": _models(comparison),
        "published": _published(comparison),
        "published_note": PUBLISHED_NOTE,
        "more": _turned_table(comparison, "more"),
        "separation": _turned_table(comparison, "separation"),
        "neighbourhoods": compared_neighbourhoods(comparison),
        "model_files": _files(comparison),
        "records": _origins(comparison),
        "drawings": {
            "side": draw_side_views(mesh_from_dict(comparison.mesh), true, made, figures),
            "deciding": draw_deciding(evaluations, figures),
            "plane": draw_plane(comparison, figures),
            "posterior": draw_posterior(comparison, figures),
            "heat_map": [draw_heat_map(comparison, figures)],
            "whole": whole,
            "by_layer": by_layer,
            "profiles": draw_model_profiles(evaluations, figures),
            "separations": draw_model_separations(evaluations, figures),
            "slices": draw_slices(evaluations, figures),
            "neighbourhoods": draw_neighbourhoods(evaluations, figures),
        },
    }


def _subtitle(comparison: ModelComparison) -> str:
    counts = sorted({m.showers for m in comparison.models})
    showers = number(counts[0]) if len(counts) == 1 else f"{number(counts[0])} to {number(counts[-1])}"
    mesh = str(comparison.mesh.get("kind", "")).replace("-", " ")
    return (
        f"{', '.join(m.name for m in comparison.models)}: {showers} showers each, judged against "
        f"{number(comparison.reference_showers)} of Geant4 on a {mesh} mesh."
    )


def _verdicts(comparison: ModelComparison) -> Table:
    rows = [
        (m.name, m.verdict.headline, m.verdict.giveaway or " ".join(m.verdict.hints) or "nothing")
        for m in comparison.models
        if m.verdict is not None
    ]
    head = ("Model", "Against Geant4", "What gives it away")
    return Table("Model by model", head, rows, numbers=False)


def _cells(row: TableRow) -> list[str | Cell]:
    """Cells of a row; the best of their columns are marked."""
    return [Cell(f"{c}*", "best") if best else c for c, best in zip(row.cells, row.best, strict=True)]


def _models(comparison: ModelComparison) -> Table | None:
    """The key table: a row a model; None where no metric of it is known."""
    columns, rows = table_rows(comparison, "main")
    if len(columns) < 2:
        return None
    labels = [column.label for column in columns]
    cells = [(row.name, *_cells(row)) for row in rows]
    if len({row.cells[0] for row in rows}) == 1:  # numbers of showers, which the page's head tells as well
        labels, cells = labels[1:], [(row[0], *row[2:]) for row in cells]
    return Table(PARTS["main"], ("Model", *labels), cells, scrolls=PARTS["main"])


def _published(comparison: ModelComparison) -> Table | None:
    """The published rows, in those of the columns that have published values; None where there are none."""
    columns, _ = table_rows(comparison, "main")
    rows = published_rows(comparison, columns)
    shown = [i for i in range(len(columns)) if any(row.cells[i] != "–" for row in rows)]
    if not shown:
        return None
    cells = [(row.name, *(row.cells[i] for i in shown)) for row in rows]
    caption = "Published by the CaloChallenge, not measured here"
    return Table(caption, ("Model", *(columns[i].label for i in shown)), cells, scrolls=caption)


def _turned_table(comparison: ModelComparison, part: str) -> Table:
    """A part of the table with one metric a row, for many metrics."""
    columns, models = table_rows(comparison, part)
    cells = [_cells(row) for row in models]
    rows = [(column.label, *(row[i] for row in cells)) for i, column in enumerate(columns)]
    return Table(PARTS[part], ("Metric", *(row.name for row in models)), rows, scrolls=PARTS[part])


def _files(comparison: ModelComparison) -> Table:
    rows = [("Geant4", str(comparison.reference_showers), comparison.reference or "in memory", "")]
    for model in comparison.models:
        rows.append((model.name, str(model.showers), model.file or "in memory", f"{model.name}/metrics.json"))
    return Table("Files", ("Sample", "Showers", "File", "All its numbers"), rows, numbers=False)


def _origins(comparison: ModelComparison) -> list[tuple[str, Table]]:
    """How the models were compared, and what is recorded of each."""
    origins = [("How the models were compared", settings("Comparison", comparison.provenance))]
    for model in comparison.models:
        record = comparison.evaluations[model.name].provenance.get("generated") or {}
        origins.append((f"Origin of {model.name}", settings(model.name, record)))
    return origins
