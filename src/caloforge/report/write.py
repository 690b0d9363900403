"""Writing a report: figures beside one page that opens without a network."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import DataError
from caloforge.evaluation.results import METRICS_FILE
from caloforge.report import judges, tables
from caloforge.report.events import choose_pairs, events_payload
from caloforge.report.figures.classifiers import draw_inputs, draw_neighbours, draw_weights
from caloforge.report.figures.correlations import draw_correlations
from caloforge.report.figures.deciding import draw_deciding
from caloforge.report.figures.events import draw_events
from caloforge.report.figures.histograms import draw_layer_pages, draw_single_pages
from caloforge.report.figures.images import draw_layer_images, draw_side_views
from caloforge.report.figures.marks import by_group
from caloforge.report.figures.neighbourhoods import draw_neighbourhoods
from caloforge.report.figures.profiles import draw_profiles, draw_separation
from caloforge.report.figures.responses import draw_responses
from caloforge.report.figures.sheet import Drawing
from caloforge.report.figures.style import GENERATED_NAME
from caloforge.report.folder import figure_files, figures_of
from caloforge.report.mean_shower import layers_payload, mean_shower
from caloforge.report.page import page_path, write_page
from caloforge.report.slices import slice_tables
from caloforge.report.words import in_words
from caloforge.report.words.rows import is_shape
from caloforge.report.words.text import group_title, number
from caloforge.report.worker import GroupPages
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance

if TYPE_CHECKING:
    from caloforge.data import Showers
    from caloforge.evaluation.results import Evaluation

__all__ = ["PAGE_FILE", "write_report"]

PAGE_FILE = "report.html"


def write_report(
    evaluation: Evaluation,
    reference: Showers,
    generated: Showers,
    out: str | os.PathLike[str],
    *,
    title: str | None = None,
    display_energy: float | None = None,
    progress: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and ``figures/*.pdf``, ``figures/*.png`` into a folder.

    The page is one file that needs no network: images, numbers and plotly.js are inside it. Figures of an
    earlier report in the same folder that this one does not have are removed; other files are left alone.

    Args:
        evaluation: what `caloforge.evaluate` returned for these showers.
        reference: showers of Geant4.
        generated: showers on the same mesh.
        out: folder; it is made where it does not exist.
        title: heading of the page.
        display_energy: incident energy, MeV, of the first shower shown in three dimensions; by default the
            median of the reference.
        progress: show a bar while a terminal is looking.
        overwrite: replace a report that is there already.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: a sample is empty, ``out`` is a file, or holds a report that must not be overwritten.
        MeshError: the samples lie on different meshes.
        MissingDependencyError: jinja2, matplotlib, mplhep or plotly is not installed.
    """
    if not len(reference) or not len(generated):
        raise DataError(
            f"a report needs showers of both kinds, got {len(reference)} of Geant4 "
            f"and {len(generated)} generated"
        )
    reference.require_same_cells(generated, "generated showers")
    if display_energy is not None and not display_energy > 0:
        raise DataError(f"display_energy must be a positive energy in MeV, got {display_energy}")
    page = page_path(out, PAGE_FILE, "report", overwrite=overwrite)
    evaluation = in_words(evaluation)
    settings = {
        "title": title,
        "display_energy_mev": display_energy,
        "reference": len(reference),
        "generated": len(generated),
    }
    with figures_of(page) as (figures, written):
        drawn = _draw(evaluation, reference, generated, figures, display_energy, progress)
        values = _values(evaluation, drawn, provenance("report", **settings))
        write_page(page, PAGE_FILE, values | {"title": title or _default_title(reference)})
        evaluation.write(page.parent / METRICS_FILE)
        written += drawn.files()
    return page


@dataclass
class Drawn:
    """Everything that was drawn for a page, by the place that shows it, and the data of its scripts."""

    drawings: dict[str, list[Drawing]] = field(default_factory=dict)
    groups: dict[str, list[Drawing]] = field(default_factory=dict)
    correlations: dict[str, Drawing] = field(default_factory=dict)
    layers: dict[str, Any] | None = None
    events: dict[str, Any] | None = None

    def files(self) -> list[str]:
        """Names of the files of all figures."""
        parts = (*self.drawings.values(), *self.groups.values(), self.correlations.values())
        return figure_files(itertools.chain(*parts))


def _draw(
    evaluation: Evaluation,
    reference: Showers,
    generated: Showers,
    folder: Path,
    display_energy: float | None,
    progress: bool,
) -> Drawn:
    mesh = reference.mesh
    # neighbourhoods have a figure of their own
    shown = [
        histogram for histogram in evaluation.histograms if histogram.name not in evaluation.neighbourhoods
    ]
    groups = by_group(shown)
    shapes = [histogram for histogram in shown if is_shape(histogram)]
    whole = [part[0] for part in groups.values() if len(part) == 1 and not is_shape(part[0])]
    several = {group: part for group, part in groups.items() if len(part) > 1 and not is_shape(part[0])}
    drawn = Drawn()
    with Display(enabled=progress, transient=True) as display, GroupPages(several, folder) as pages:
        steps = itertools.count()

        def show(what: str) -> None:
            display("report", next(steps), 5 + len(several), what)

        show("mean showers")
        means = mean_shower(reference), mean_shower(generated)
        drawn.layers = layers_payload(mesh, *means)
        made = {GENERATED_NAME: means[1].mean}
        drawn.drawings["layers"] = draw_layer_images(mesh, *means, folder)
        drawn.drawings["side"] = draw_side_views(mesh, means[0].mean, made, folder)
        drawn.drawings["deciding"] = draw_deciding({GENERATED_NAME: evaluation}, folder)
        show("single showers")
        pairs = choose_pairs(reference, generated, display_energy)
        drawn.drawings["events"] = draw_events(mesh, pairs, folder)
        drawn.events = events_payload(mesh, pairs) if drawn.drawings["events"] else None
        show("classifiers and neighbours")
        known = evaluation.memorisation
        drawn.drawings["weights"] = draw_weights(evaluation.classifiers, folder)
        drawn.drawings["inputs"] = draw_inputs(evaluation.classifiers, evaluation.histograms, folder)
        drawn.drawings["memorisation"] = [] if known is None else [draw_neighbours(known, folder)]
        drawn.drawings["neighbourhoods"] = draw_neighbourhoods({"generated": evaluation}, folder)
        show("profiles")
        drawn.drawings["profiles"] = draw_profiles(evaluation.profiles, folder)
        drawn.drawings["separation"] = draw_separation(several, folder)
        drawn.drawings["responses"] = draw_responses(evaluation.responses, folder)
        drawn.correlations = draw_correlations(evaluation.correlations, folder)
        show("distributions")
        drawn.drawings["shapes"] = draw_layer_pages("shapes", "Shower shapes", shapes, folder)
        drawn.drawings["overview"] = draw_single_pages("overview", whole, folder)
        show("layers")
        drawn.groups = pages.finish(lambda group: show(group_title(group)))
    return drawn


def _values(evaluation: Evaluation, drawn: Drawn, record: dict[str, Any]) -> dict[str, Any]:
    """What the template ``report.html`` uses."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return {
        "evaluation": evaluation,
        "verdict": evaluation.verdict,
        "tables": tables,
        "judges": judges,
        "slice_tables": slice_tables,
        "drawings": drawn.drawings,
        "groups": drawn.groups,
        "correlations": drawn.correlations,
        "layers": drawn.layers,
        "events": drawn.events,
        "plotly": Markup(get_plotlyjs().replace("</script", "<\\/script")) if drawn.events else "",
        "provenance": record,
        "time": record.get("time_utc", ""),
        "subtitle": _subtitle(evaluation),
    }


def _subtitle(evaluation: Evaluation) -> str:
    ranges = evaluation.conditions.get("reference") or {}
    detectors = ", ".join(name for name in ranges.get("detector", ()) if name)
    mesh = str(evaluation.mesh.get("kind", "")).replace("-", " ")
    return (
        f"{number(evaluation.counts['generated'])} generated showers, judged against "
        f"{number(evaluation.counts['reference'])} of Geant4{f' in {detectors}' if detectors else ''}; "
        f"{mesh} mesh of {number(len(evaluation.mean_shower.get('reference', ())))} cells."
    )


def _default_title(reference: Showers) -> str:
    names = sorted({str(name) for name in reference.conditions.detector if name})
    place = f" in {names[0]}" if len(names) == 1 else ""
    return f"Generated showers against Geant4{place}"
