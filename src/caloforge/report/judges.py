"""Figures of what classifiers saw, and of nearest neighbours. Legend: ``B`` bins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import ClassifierResult, Diagnosis, Histogram, Memorisation
from caloforge.report.style import (
    GENERATED,
    GENERATED_NAME,
    REFERENCE,
    REFERENCE_FILL,
    REFERENCE_NAME,
    Drawing,
    figure_style,
    new_figure,
    save,
)
from caloforge.report.words.text import classifier_title, feature_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["diagnosed", "draw_inputs", "draw_neighbours", "draw_weights"]

MOST_INPUTS = 12


def diagnosed(classifiers: Mapping[str, ClassifierResult]) -> dict[str, Diagnosis]:
    """The diagnoses that there are, by the classifiers' names."""
    return {name: r.diagnosis for name, r in classifiers.items() if r.diagnosis is not None}


def draw_weights(classifiers: Mapping[str, ClassifierResult], folder: Path) -> Drawing | None:
    """Histograms of log-weights of validation showers, one panel a classifier; None without a diagnosis."""
    found = diagnosed(classifiers)
    if not found:
        return None
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    height = 0.15 + 3.1 * rows
    with figure_style():
        figure = new_figure(5.3 * columns + 0.1, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.13 / columns + 0.01,
            right=0.985,
            wspace=0.24,
            hspace=0.4,
            top=1 - 0.35 / height,
            bottom=0.62 / height,
        )
        for k, (name, diagnosis) in enumerate(found.items()):
            axes = figure.add_subplot(grid[divmod(k, columns)])
            edges = diagnosis.edges
            reference, generated = (h / max(h.sum(), 1.0) for h in (diagnosis.reference, diagnosis.generated))
            axes.stairs(reference, edges, fill=True, color=REFERENCE_FILL, label=REFERENCE_NAME)
            axes.stairs(reference, edges, color=REFERENCE, linewidth=0.9)
            axes.stairs(generated, edges, color=GENERATED, linewidth=1.2, label=GENERATED_NAME)
            axes.axvline(0, color=REFERENCE, linewidth=0.7, linestyle=":")
            both = np.flatnonzero((reference > 0) | (generated > 0))
            if len(both):
                reach = float(np.abs(edges[[both[0], both[-1] + 1]]).max())
                axes.set_xlim(max(edges[0], -reach), min(edges[-1], reach))
            axes.set_ylim(0, 1.35 * max(float(reference.max()), float(generated.max()), 1e-9))
            axes.set_title(f"classifier of {classifier_title(name)}", fontsize="medium")
            axes.set_xlabel("log-weight  ln w = ln p / (1 − p)")
            axes.set_ylabel("fraction of showers")
            axes.legend(loc="upper left")
        return save(
            figure,
            folder,
            "classifier_weights",
            "Log-weights that the classifiers give to validation showers: right of 0 a shower looks like "
            "Geant4, left of it like the generator. The end bins hold what lies beyond.",
            "Histograms of the classifiers' log-weights of Geant4 and generated showers.",
        )


def draw_inputs(
    classifiers: Mapping[str, ClassifierResult], histograms: list[Histogram], folder: Path
) -> Drawing | None:
    """How much each classifier loses without an input, and what the input tells alone; None without any."""
    found = {name: d for name, d in diagnosed(classifiers).items() if d.features}
    if not found:
        return None
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    most = max(min(len(d.features) + len(d.groups[:3]), MOST_INPUTS + 3) for d in found.values())
    panel = 0.9 + 0.215 * most
    width, height = 5.3 * columns + 0.1, 0.1 + rows * panel
    with figure_style():
        figure = new_figure(width, height)
        for k, (name, diagnosis) in enumerate(found.items()):
            row, column = divmod(k, columns)
            inner = panel - 0.9
            axes = figure.add_axes(
                (
                    (5.3 * column + 2.35) / width,
                    1 - (row * panel + 0.35 + inner) / height,
                    2.75 / width,
                    inner / height,
                )
            )
            _draw_inputs(axes, diagnosis, histograms)
            axes.set_title(f"classifier of {classifier_title(name)}", fontsize="medium")
        return save(
            figure,
            folder,
            "classifier_inputs",
            "What the classifiers rely on. Bars: AUC lost on validation showers when an input is shuffled "
            "(related inputs stand in for each other; pale bars are whole groups shuffled together). "
            "Diamonds: AUC above 0.5 of the input alone.",
            "Bars of the loss of AUC for the inputs that the classifiers rely on most.",
        )


def _draw_inputs(axes: Axes, diagnosis: Diagnosis, histograms: list[Histogram]) -> None:
    groups = diagnosis.groups[:3]
    shares = [*groups, *diagnosis.features[:MOST_INPUTS]]
    at = -np.arange(len(shares), dtype=np.float64)
    drops = np.array([s.drop for s in shares])
    errors = np.array([s.error for s in shares])
    colours = [REFERENCE_FILL] * len(groups) + [GENERATED] * (len(shares) - len(groups))
    axes.barh(at, drops, 0.68, xerr=errors, color=colours, ecolor=REFERENCE, error_kw={"elinewidth": 0.9})
    alone = np.array([s.alone - 0.5 for s in shares])
    if np.isfinite(alone).any():
        axes.plot(alone, at, "D", color=REFERENCE, markersize=4, markerfacecolor="white", label="alone")
    axes.axvline(0, color=REFERENCE, linewidth=0.7)
    axes.set_yticks(at, [feature_words(s.name, histograms) for s in shares], fontsize="small")
    axes.set_ylim(-len(shares) + 0.4, 0.6)
    low = min(float(np.min(drops - errors, initial=0.0)), 0.0)
    high = max(float(np.max(drops + errors, initial=0.0)), float(np.nanmax([*alone, 0.0])), 0.01)
    axes.set_xlim(1.1 * low, 1.12 * high)
    axes.tick_params(which="both", direction="out", top=False, right=False)
    axes.tick_params(axis="y", which="both", left=False)
    axes.set_xlabel("AUC lost without it", loc="center")
    if np.isfinite(alone).any():
        axes.set_xlabel("AUC lost without it (diamonds: AUC alone − 0.5)", loc="center", fontsize="small")


def draw_neighbours(memorisation: Memorisation, folder: Path) -> Drawing:
    """Distances to the nearest training and held-out shower."""
    with figure_style():
        figure = new_figure(7.2, 3.9)
        axes = figure.add_axes((0.1, 0.17, 0.88, 0.79))
        edges = memorisation.edges
        reference = memorisation.held_out_to_training / max(memorisation.held_out_to_training.sum(), 1.0)
        axes.stairs(reference, edges, fill=True, color=REFERENCE_FILL, label="held-out Geant4 to training")
        axes.stairs(reference, edges, color=REFERENCE, linewidth=0.9)
        top = float(reference.max(initial=0.0))
        for counts, style, label in (
            (memorisation.generated_to_training, "-", "generated to training"),
            (memorisation.generated_to_held_out, "--", "generated to held-out Geant4"),
        ):
            share = counts / max(counts.sum(), 1.0)
            top = max(top, float(share.max(initial=0.0)))
            axes.stairs(share, edges, color=GENERATED, linewidth=1.2, linestyle=style, label=label)
        if edges[0] > 0 and edges[-1] > 100 * edges[0] and not math.isclose(edges[0], edges[-1]):
            axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.3 * (top or 1.0))
        axes.set_xlabel("distance to the nearest shower")
        axes.set_ylabel("fraction of showers")
        axes.legend(loc="upper right")
        return save(
            figure,
            folder,
            "memorisation",
            "Distance to the nearest shower. A generator that copies its training set has generated showers "
            "(solid) far left of the held-out ones (grey).",
            "Histograms of the distance to the nearest training and held-out shower.",
        )
