"""Writing a report: figures beside one page that opens without a network."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from caloforge.errors import DataError
from caloforge.evaluation import METRICS_FILE, write_metrics
from caloforge.evaluation.verdict import find_verdict
from caloforge.report.style import require_drawing_packages
from caloforge.runtime.files import whole_file
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance

if TYPE_CHECKING:
    from caloforge.data import Showers
    from caloforge.evaluation import Evaluation, Histogram
    from caloforge.report.material import Material

__all__ = ["write_report"]

MANIFEST = "manifest.json"
"""In ``figures``: the files that a report wrote there, so that the next one knows what is its own."""


class Step(Protocol):
    """Tells how far the report is: what is being done and how many steps were finished."""

    def __call__(self, what: str, finished: int = 1) -> None: ...


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
        MissingDependencyError: matplotlib, mplhep or plotly is not installed.
    """
    folder = Path(out)
    page = folder / "report.html"
    if not len(reference) or not len(generated):
        raise DataError(
            f"a report needs showers of both kinds, got {len(reference)} of Geant4 "
            f"and {len(generated)} generated"
        )
    reference.mesh.require_same(generated.mesh, "generated showers")
    if display_energy is not None and not display_energy > 0:
        raise DataError(f"display_energy must be a positive energy in MeV, got {display_energy}")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the report")
    if page.exists() and not overwrite:
        raise DataError(f"{page} exists; choose another folder or allow overwriting (--overwrite)")
    require_drawing_packages()
    from caloforge.report.page import render
    from caloforge.report.summary import group_titles

    titles = group_titles([histogram.group for histogram in evaluation.histograms])
    if evaluation.verdict is None:
        evaluation = dataclasses.replace(evaluation, verdict=find_verdict(evaluation))
    figures = folder / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        old = earlier_figures(figures)
        with _bar(progress, evaluation) as step:
            material = _draw_all(evaluation, reference, generated, figures, titles, display_energy, step)
            step("page", 0)
            settings = {
                "title": title,
                "display_energy_mev": display_energy,
                "reference": len(reference),
                "generated": len(generated),
            }
            heading = title or _default_title(reference)
            text = render(evaluation, material, titles, heading, provenance("report", **settings))
            with whole_file(page) as file:
                file.write(text.encode())
            write_metrics(evaluation, folder / METRICS_FILE)
            _tidy(figures, old, [f"{d.name}.{kind}" for d in material.drawings() for kind in ("pdf", "png")])
            step("page")
    except OSError as error:
        raise DataError(f"cannot write the report into {folder}: {error}") from error
    return page


def earlier_figures(figures: Path) -> list[str]:
    """Files that the report before this one wrote, by its list; none where there is no list."""
    try:
        names = json.loads((figures / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def _tidy(figures: Path, old: Sequence[str], new: Sequence[str]) -> None:
    """Remove figures of the report before that this one no longer has, and list those that it has."""
    for name in set(old) - set(new):
        if name.endswith((".pdf", ".png")):
            (figures / name).unlink(missing_ok=True)
    with whole_file(figures / MANIFEST) as file:
        file.write(json.dumps({"made_by": "caloforge report", "files": sorted(new)}, indent=1).encode())


def _default_title(reference: Showers) -> str:
    names = sorted({str(name) for name in reference.conditions.detector if name})
    where = f" in {names[0]}" if len(names) == 1 else ""
    return f"Generated showers against Geant4{where}"


def _by_group(evaluation: Evaluation) -> dict[str, list[Histogram]]:
    groups: dict[str, list[Histogram]] = {}
    for histogram in evaluation.histograms:
        groups.setdefault(histogram.group, []).append(histogram)
    return groups


def _draw_all(
    evaluation: Evaluation,
    reference: Showers,
    generated: Showers,
    folder: Path,
    titles: dict[str, str],
    display_energy: float | None,
    step: Step,
) -> Material:
    from caloforge.report.curves import draw_responses
    from caloforge.report.display import choose_pairs, draw_events
    from caloforge.report.histograms import draw_layer_pages, draw_single_pages
    from caloforge.report.images import draw_layer_images, draw_side_view
    from caloforge.report.judges import draw_inputs, draw_neighbours, draw_weights
    from caloforge.report.material import Material
    from caloforge.report.matrices import draw_correlations
    from caloforge.report.means import mean_shower
    from caloforge.report.payload import events_payload, layers_payload
    from caloforge.report.profiles import draw_profiles, draw_separation
    from caloforge.report.summary import is_shape
    from caloforge.report.worker import GroupPages

    mesh = reference.mesh
    groups = _by_group(evaluation)
    rest = {group: part for group, part in groups.items() if not is_shape(part[0])}
    several = {group: part for group, part in rest.items() if len(part) > 1}
    material = Material()
    with GroupPages(several, titles, folder) as pages:
        step("mean showers", 0)
        means = mean_shower(reference), mean_shower(generated)
        material.layers_data = layers_payload(mesh, *means)
        material.side = draw_side_view(mesh, *means, folder)
        material.layers = draw_layer_images(mesh, *means, folder)
        step("single showers")
        pairs = choose_pairs(reference, generated, display_energy)
        material.events = draw_events(mesh, pairs, folder)
        if material.events is not None:
            material.events_data = events_payload(mesh, pairs)
        step("judges")
        material.weights = draw_weights(evaluation.classifiers, folder)
        material.inputs = draw_inputs(evaluation.classifiers, evaluation.histograms, folder)
        if evaluation.memorisation is not None:
            material.memorisation = draw_neighbours(evaluation.memorisation, folder)
        step("profiles")
        material.profiles = draw_profiles(evaluation.profiles, folder)
        material.separation = draw_separation(several, titles, folder)
        material.responses = draw_responses(evaluation.responses, folder)
        material.correlations = draw_correlations(evaluation.correlations, folder)
        step("distributions")
        shapes = [histogram for histogram in evaluation.histograms if is_shape(histogram)]
        material.shapes = draw_layer_pages("shapes", "Shower shapes", shapes, folder)
        whole = [part[0] for part in rest.values() if len(part) == 1]
        material.overview = draw_single_pages("overview", whole, folder)
        material.groups = pages.finish(lambda group: step(titles[group]))
    return material


@contextmanager
def _bar(progress: bool, evaluation: Evaluation) -> Iterator[Step]:
    """A bar on standard error that is silent unless a terminal shows it."""
    groups = sum(len(part) > 1 for part in _by_group(evaluation).values())
    done = 0
    with Display(enabled=progress, transient=True) as show:

        def step(what: str, finished: int = 1) -> None:
            nonlocal done
            done += finished
            show("report", done, 5 + groups, what)

        yield step
