"""Figures of what classifiers saw, and of nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.evaluation.results import ClassifierResult, Diagnosis, Histogram, Memorisation
from caloforge.report.figures.marks import Floats, filled_stairs, spans_decades
from caloforge.report.figures.sheet import Drawing, panel_sheet, sheet
from caloforge.report.figures.style import GENERATED, GENERATED_NAME, REFERENCE, REFERENCE_FILL
from caloforge.report.words.text import classifier_title, feature_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_inputs", "draw_neighbours", "draw_weights"]

MOST_INPUTS = 12


def _diagnosed(classifiers: Mapping[str, ClassifierResult]) -> dict[str, Diagnosis]:
    return {name: r.diagnosis for name, r in classifiers.items() if r.diagnosis is not None}


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / max(counts.sum(), 1.0))


def draw_weights(classifiers: Mapping[str, ClassifierResult], folder: Path) -> list[Drawing]:
    """Histograms of log-weights of validation showers, one panel a classifier with a diagnosis."""
    found = _diagnosed(classifiers)
    if not found:
        return []
    with panel_sheet(
        len(found), min(2, len(found)), panel=(5.35, 2.4), margins=(0.8, 0.15, 0.35, 0.62), gaps=(0.24, 0.4)
    ) as page:
        for k, (name, diagnosis) in enumerate(found.items()):
            axes = page.panel(k)
            edges = diagnosis.edges
            reference, generated = _shares(diagnosis.reference), _shares(diagnosis.generated)
            filled_stairs(axes, reference, edges)
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
        return [
            page.save(
                folder,
                "classifier_weights",
                "Log-weights: right of 0 like Geant4, left like the generator.",
                "Histograms of the classifiers' log-weights of Geant4 and generated showers.",
            )
        ]


def draw_inputs(
    classifiers: Mapping[str, ClassifierResult], histograms: list[Histogram], folder: Path
) -> list[Drawing]:
    """How much each classifier loses without an input, and the AUC of the input alone."""
    found = {name: d for name, d in _diagnosed(classifiers).items() if d.features}
    if not found:
        return []
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    most = max(min(len(d.features) + len(d.groups[:3]), MOST_INPUTS + 3) for d in found.values())
    inner = 0.215 * most
    panel = 0.9 + inner
    with sheet(5.3 * columns + 0.1, 0.1 + rows * panel) as page:
        for k, (name, diagnosis) in enumerate(found.items()):
            row, column = divmod(k, columns)
            bottom = page.height - (row * panel + 0.35 + inner)
            axes = page.axes(5.3 * column + 2.35, bottom, 2.75, inner)
            _draw_inputs(axes, diagnosis, histograms)
            axes.set_title(f"classifier of {classifier_title(name)}", fontsize="medium")
        return [
            page.save(
                folder,
                "classifier_inputs",
                "Bars: AUC lost where an input is shuffled; pale: a group. Diamonds: AUC − 0.5 of one alone.",
                "Bars of the loss of AUC for the inputs that the classifiers rely on most.",
            )
        ]


def _draw_inputs(axes: Axes, diagnosis: Diagnosis, histograms: list[Histogram]) -> None:
    groups = diagnosis.groups[:3]
    shares = [*groups, *diagnosis.features[:MOST_INPUTS]]
    at = -np.arange(len(shares), dtype=np.float64)
    drops = np.array([s.drop for s in shares])
    errors = np.array([s.error for s in shares])
    colours = [REFERENCE_FILL] * len(groups) + [GENERATED] * (len(shares) - len(groups))
    axes.barh(at, drops, 0.68, xerr=errors, color=colours, ecolor=REFERENCE, error_kw={"elinewidth": 0.9})
    alone = np.array([s.alone - 0.5 for s in shares])
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
        axes.plot(alone, at, "D", color=REFERENCE, markersize=4, markerfacecolor="white")
        axes.set_xlabel("AUC lost without it (diamonds: AUC alone − 0.5)", loc="center", fontsize="small")


def draw_neighbours(memorisation: Memorisation, folder: Path, one: str = "shower") -> Drawing:
    """Distances to the nearest training and held-out shower (or what ``one`` is)."""
    with sheet(7.2, 3.9) as page:
        axes = page.axes(0.72, 0.663, 6.336, 3.081)
        edges = memorisation.edges
        reference = _shares(memorisation.held_out_to_training)
        training = _shares(memorisation.generated_to_training)
        held_out = _shares(memorisation.generated_to_held_out)
        filled_stairs(axes, reference, edges, "held-out Geant4 to training")
        look: dict[str, Any] = {"color": GENERATED, "linewidth": 1.2}
        axes.stairs(training, edges, label="generated to training", **look)
        axes.stairs(held_out, edges, linestyle="--", label="generated to held-out Geant4", **look)
        if spans_decades(edges):
            axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.3 * (float(np.max([reference, training, held_out])) or 1.0))
        axes.set_xlabel(f"distance to the nearest {one}")
        axes.set_ylabel(f"fraction of {one}s")
        axes.legend(loc="upper right")
        return page.save(
            folder,
            "memorisation",
            f"Distance to the nearest {one}; of copies, generated ones (solid) lie far left of held-out ones "
            "(grey).",
            f"Histograms of the distance to the nearest training and held-out {one}.",
        )
