"""The report of pixel events: figures beside one page that opens without a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from caloforge.evaluation.results import METRICS_FILE
from caloforge.report import pixel_tables
from caloforge.report.figures.classifiers import draw_neighbours
from caloforge.report.figures.correlations import draw_sensor_correlations
from caloforge.report.figures.deciding import draw_event_spectra
from caloforge.report.figures.histograms import draw_single_pages
from caloforge.report.figures.ladders import draw_ladders, draw_maps
from caloforge.report.figures.overlay import draw_overlay, draw_rates
from caloforge.report.figures.sensors import draw_sensors, draw_unrolled, typical_events
from caloforge.report.figures.sheet import Drawing
from caloforge.report.folder import figure_files, figures_of
from caloforge.report.page import page_path, write_page
from caloforge.report.tables import nearest_pairs, neighbours
from caloforge.report.words import in_words
from caloforge.report.words.text import number
from caloforge.report.write import PAGE_FILE
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance

if TYPE_CHECKING:
    from caloforge.data import PixelEvents
    from caloforge.evaluation.results import PixelEvaluation

__all__ = ["write_event_report"]

TEMPLATE = "pixels.html"


def write_event_report(
    evaluation: PixelEvaluation,
    reference: PixelEvents,
    generated: PixelEvents,
    out: str | os.PathLike[str],
    *,
    title: str | None = None,
    progress: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and ``figures/*.pdf``, ``figures/*.png`` into a folder.

    Args:
        evaluation: what `caloforge.evaluate_events` returned for these events.
        reference: the truth.
        generated: events of the same detector.
        out: folder; it is made where it does not exist.
        title: heading of the page.
        progress: show a bar while a terminal is looking.
        overwrite: replace a report that is there already.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: ``out`` is a file, or holds a report that must not be overwritten.
        MissingDependencyError: jinja2, matplotlib, mplhep or plotly is not installed.
    """
    page = page_path(out, PAGE_FILE, "report", overwrite=overwrite)
    evaluation = in_words(evaluation)
    made_by = provenance("report", title=title, reference=len(reference), generated=len(generated))
    with figures_of(page) as (figures, written):
        correlations = draw_sensor_correlations(evaluation.correlations, figures)
        drawings = _draw(evaluation, reference, generated, figures, progress)
        values = {
            "title": title or f"Generated events against Geant4 in {evaluation.detector}",
            "subtitle": _subtitle(evaluation, reference),
            "time": made_by.get("time_utc", ""),
            "evaluation": evaluation,
            "verdict": evaluation.verdict,
            "tables": pixel_tables,
            "neighbours": neighbours,
            "nearest_pairs": nearest_pairs,
            "drawings": drawings,
            "correlations": correlations,
            "provenance": made_by,
        }
        write_page(page, TEMPLATE, values)
        evaluation.write(page.parent / METRICS_FILE)
        written += figure_files(correlations.values())
        written += figure_files(drawing for part in drawings.values() for drawing in part)
    return page


def _draw(
    evaluation: PixelEvaluation, reference: PixelEvents, generated: PixelEvents, folder: Path, progress: bool
) -> dict[str, list[Drawing]]:
    """All figures but the matrices, by the place that shows them."""
    detector = reference.detector
    with Display(enabled=progress, transient=True) as display:
        display("report", 0, 4, "events")
        chosen = typical_events(reference, generated)
        pair = [events.dense(i) for events, i in zip((reference, generated), chosen, strict=True)]
        drawn = {
            "unrolled": draw_unrolled(detector, pair[0], pair[1], folder),
            "sensors": draw_sensors(detector, pair[0], pair[1], folder),
        }
        display("report", 1, 4, "occupancies")
        drawn["beam"], drawn["ladders"] = draw_ladders(detector, evaluation, folder)
        drawn["maps"] = draw_maps(detector, evaluation, folder)
        display("report", 2, 4, "overlay and rates")
        curve, known = evaluation.rate_curve, evaluation.memorisation
        drawn["overlay"] = draw_overlay(evaluation, folder)
        drawn["rates"] = [] if curve is None else draw_rates(curve, folder)
        drawn["memorisation"] = [] if known is None else [draw_neighbours(known, folder, "event")]
        display("report", 3, 4, "distributions")
        drawn["deciding"] = draw_event_spectra(evaluation.histograms, folder)
        drawn["spectra"] = draw_single_pages("spectra", evaluation.histograms, folder)
    return drawn


def _subtitle(evaluation: PixelEvaluation, reference: PixelEvents) -> str:
    sensors, n_u, n_v = reference.detector.shape
    return (
        f"{number(evaluation.counts['generated'])} generated events, judged against "
        f"{number(evaluation.counts['reference'])} of Geant4 in {evaluation.detector}; {sensors} sensors of "
        f"{n_u} × {n_v} cells."
    )
