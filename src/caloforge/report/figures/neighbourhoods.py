"""Neighbourhoods of lit cells ring by ring, layer by layer and by distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import Evaluation, NeighbourhoodMetric
from caloforge.report.figures.marks import Floats, band, points
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import (
    GENERATED_NAME,
    GENERATED_STYLE,
    REFERENCE,
    REFERENCE_FILL,
    SampleStyle,
    model_styles,
)
from caloforge.report.words.text import group_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_neighbourhoods"]

PLACES = {"ring": "ring, from the axis outwards", "layer": "layer"}
DISTANCE = "distance in cells"

Placed = Mapping[str, list[NeighbourhoodMetric]]


def draw_neighbourhoods(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """Means of every observable that has several places; of one evaluation or of several models by name."""
    samples = [_by_group(evaluation) for evaluation in evaluations.values()]
    groups = [group for group in samples[0] if all(group in placed for placed in samples)] if samples else []
    if not groups:
        return []
    single = len(samples) == 1
    styles = [GENERATED_STYLE] if single else model_styles(list(evaluations))
    with panel_sheet(
        len(groups), 3, panel=(3.55, 2.55), margins=(0.62, 0.1, 0.25, 0.5), gaps=(0.24, 0.42), models=styles
    ) as page:
        for k, group in enumerate(groups):
            axes = page.panel(k)
            _draw(axes, [placed[group] for placed in samples], styles)
            axes.set_title(group_title(group), fontsize="small")
            axes.set_xlabel(PLACES.get(group.rpartition("_")[2], DISTANCE), loc="center")
        names = GENERATED_NAME if single else ", ".join(evaluations)
        return [
            page.save(
                folder,
                "neighbourhoods",
                "Neighbours of lit cells. Grey: Geant4’s scatter, two standard deviations.",
                f"Means of neighbourhood observables of Geant4 and {names}, by ring, layer and distance.",
            )
        ]


def _by_group(evaluation: Evaluation) -> dict[str, list[NeighbourhoodMetric]]:
    groups: dict[str, list[NeighbourhoodMetric]] = {}
    for metric in evaluation.neighbourhoods.values():
        if metric.place is not None:
            groups.setdefault(metric.group, []).append(metric)
    return {group: metrics for group, metrics in groups.items() if len(metrics) > 1}


def _draw(axes: Axes, samples: list[list[NeighbourhoodMetric]], styles: list[SampleStyle]) -> None:
    known = samples[0]
    at: Floats = np.arange(len(known), dtype=np.float64)
    edges: Floats = np.arange(len(known) + 1, dtype=np.float64) - 0.5
    mean = np.array([m.reference_mean for m in known])
    scatter = np.array([2 * m.difference.floor_error for m in known])
    axes.axhline(0, color=REFERENCE, linewidth=0.5, linestyle=":")
    band(axes, edges, mean - scatter, mean + scatter, color=REFERENCE_FILL)
    axes.stairs(mean, edges, color=REFERENCE, linewidth=1.0, baseline=None)
    for k, (sample, style) in enumerate(zip(samples, styles, strict=True)):
        shift = 0.5 * ((k + 1) / (len(samples) + 1) - 0.5)
        values = np.array([m.generated_mean for m in sample])
        errors = np.array([m.generated_error for m in sample])
        points(axes, at + shift, values, errors, style.colour, style.marker, size=3 if len(at) < 20 else 2)
    step = max(1, len(known) // 9)
    axes.set_xticks(at[::step], [str(m.place) for m in known[::step]])
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
