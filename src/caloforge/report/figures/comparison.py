"""Figures of several models' numbers: distances from chance, one network for all, quality bin by bin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.evaluation.comparison.ranking import is_quality, sigmas_above_floor
from caloforge.evaluation.results import Evaluation, ModelComparison, Slice
from caloforge.report.figures.marks import points
from caloforge.report.figures.quality_speed import GREY
from caloforge.report.figures.sheet import Drawing, panel_sheet, sheet
from caloforge.report.figures.style import REFERENCE, REFERENCE_FILL, SampleStyle, model_styles
from caloforge.report.words.text import lowered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heat_map", "draw_posterior", "draw_slices"]

LEVELS = (3.0, 5.0, 10.0, 30.0, 100.0)
"""Edges of the heat map's colours, standard deviations above chance."""
SHADES = ("#ffffff", "#fff1cf", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000")
CONDITIONS = {"energy": "incident energy [GeV]", "theta": "θ [rad]", "phi": "φ [rad]"}


def draw_heat_map(comparison: ModelComparison, folder: Path) -> Drawing:
    """Every quality metric of every model in standard deviations above chance."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    metrics = [model.metrics for model in comparison.models]
    columns = [c for c in comparison.columns if is_quality(c.key) and math.isfinite(c.floor.error)]
    rows = [
        [sigmas_above_floor(c.key, m[c.key]) if c.key in m else math.nan for m in metrics] for c in columns
    ]
    known = [i for i, row in enumerate(rows) if np.isfinite(row).any()]
    columns, table = [columns[i] for i in known], np.array([rows[i] for i in known])
    names = [m.name for m in comparison.models]
    left, bottom, above = 2.6, 0.75, 0.35 + 0.045 * max(map(len, names))
    side, depth = max(0.85 * len(names), 2.0) + 0.85, 0.27 * len(columns)
    with sheet(left + side + 0.15, above + depth + bottom, small=True) as page:
        axes = page.axes(left, bottom, side, depth)
        norm = BoundaryNorm([-1e9, *LEVELS, 1e9], len(SHADES))
        drawn = axes.imshow(np.ma.masked_invalid(table), ListedColormap(SHADES), norm, aspect="auto")
        texts = np.vectorize(_sigmas_text, otypes=[str])(table)
        _write_cells(axes, texts, table > LEVELS[-2], fontsize=7.5)
        labels = [f"S, {lowered(c.label)}" if c.part == "separation" else c.label for c in columns]
        _name_cells(axes, names, labels, rotation=25)
        axes.tick_params(length=0, which="both")
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#d9dde3", linewidth=0.6)
        bar = page.figure.colorbar(
            drawn, cax=page.axes(left, 0.42, side, 0.14), orientation="horizontal", spacing="uniform"
        )
        bar.set_ticks(list(LEVELS), labels=[f"{v:g}" for v in LEVELS])
        bar.set_label("standard deviations above chance")
        return page.save(
            folder,
            "distance_from_chance",
            "How far each metric lies above what two samples of Geant4 give. White: not more than chance.",
            f"Heat map of {len(columns)} metrics of {', '.join(names)}.",
        )


def _sigmas_text(value: float) -> str:
    text = "–" if math.isnan(value) else f"{value:z.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.replace("-", "−")


def _write_cells(axes: Axes, texts: np.ndarray, dark: np.ndarray, fontsize: float | None = None) -> None:
    """A text in the middle of each cell of a matrix, white on dark cells."""
    for (i, j), text in np.ndenumerate(texts):
        colour = "white" if dark[i, j] else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=fontsize, color=colour)


def _name_cells(axes: Axes, columns: Sequence[str], rows: Sequence[str], rotation: float) -> None:
    axes.set_xticks(range(len(columns)), columns, rotation=rotation, ha="left")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), rows)


def draw_posterior(comparison: ModelComparison, folder: Path) -> list[Drawing]:
    """The multi-class classifier's log-posterior of each class, and where it puts the showers of each."""
    result = comparison.multiclass
    if result is None:
        return []
    styles = {s.name: s for s in model_styles([m.name for m in comparison.models])}
    names = list(result.names)
    top = 0.25 + 0.045 * max(map(len, names))
    with panel_sheet(
        2,
        2,
        panel=(5.2, 0.4 * len(names) + 0.05),
        margins=(1.45, 0.2, top, 0.55),
        gaps=(0.5, 0.0),
        small=True,
    ) as page:
        axes = page.panel(0)
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        own, error = float(result.log_posterior[0]), float(result.log_posterior_error[0])
        axes.axvspan(own - error, own + error, color=REFERENCE_FILL, linewidth=0)
        for i, name in enumerate(names):
            style = styles.get(name, SampleStyle(name, REFERENCE, "*", "-"))
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 6}
            axes.errorbar(result.log_posterior[i], i, xerr=result.log_posterior_error[i], **look)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("log-posterior: mean of ln p(class | Geant4 shower) + ln K")
        matrix = page.panel(1)
        matrix.imshow(result.confusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        texts = np.vectorize(lambda share: f"{100 * share:.0f} %", otypes=[str])(result.confusion)
        _write_cells(matrix, texts, result.confusion > 0.6)
        _name_cells(matrix, names, names, rotation=20)
        matrix.tick_params(length=0)
        matrix.set_xlabel("showers of each row taken for …")
        return [
            page.save(
                folder,
                "log_posterior",
                "Left: to which class one network gives Geant4’s showers; farthest right is nearest to "
                "Geant4, in its band not told from it. Right: where each sample’s showers go.",
                f"Log-posteriors and confusion matrix of {', '.join(names)}.",
            )
        ]


def draw_slices(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """AUCs and ratios of the responses in every bin of each condition that varies, one figure each."""
    drawings = []
    styles = model_styles(list(evaluations))
    for condition, label in CONDITIONS.items():
        per_model = [[s for s in e.slices if s.condition == condition] for e in evaluations.values()]
        if min(len(slices) for slices in per_model) < 2:
            continue
        aucs = [key for s in per_model[0] for key in s.metrics if key.startswith("auc_")]
        keys = [*dict.fromkeys(aucs), "response"]
        with panel_sheet(
            len(keys),
            len(keys),
            panel=(4.3, 2.95),
            margins=(0.95, 0.15, 0.1, 0.65),
            gaps=(0.32, 0.0),
            models=styles,
            lines=False,
        ) as page:
            for k, key in enumerate(keys):
                axes = page.panel(k)
                _draw_slices(axes, key, per_model, styles, 1000.0 if condition == "energy" else 1.0)
                axes.set_xlabel(label)
            words = ", ".join("ratio of the responses" if k == "response" else f"AUC {k[4:]}" for k in keys)
            drawings.append(
                page.save(
                    folder,
                    f"slices_{condition}",
                    f"In bins of the {label.partition(' [')[0]}: {words}. Grey: chance, one σ.",
                    f"{words} of {', '.join(evaluations)} against {label}.",
                )
            )
    return drawings


def _draw_slices(
    axes: Axes, key: str, per_model: Sequence[Sequence[Slice]], styles: Sequence[SampleStyle], unit: float
) -> None:
    """One quantity of all models; those of a bin stand side by side."""
    log = unit != 1.0
    for i, (slices, style) in enumerate(zip(per_model, styles, strict=True)):
        shift = (i + 1) / (len(styles) + 1)
        for piece in slices:
            value, error, floor, spread = _sliced(piece, key)
            low, high = piece.low / unit, piece.high / unit
            x = low * (high / low) ** shift if log else low + shift * (high - low)
            points(axes, x, value, error, style.colour, style.marker, size=4.5)
            if i == 0:
                band: dict[str, Any] = {"color": REFERENCE_FILL, "linewidth": 0, "zorder": 0}
                axes.fill_between([low, high], floor - spread, floor + spread, **band)
                axes.plot([low, high], [floor, floor], color=REFERENCE, linewidth=0.8, zorder=1)
    if log:
        axes.set_xscale("log")
    axes.set_ylabel("response, generated / Geant4" if key == "response" else f"AUC {key[4:]}")


def _sliced(piece: Slice, key: str) -> tuple[float, float, float, float]:
    """Value, error, and what equal samples give with its error; NaN where the bin has too few showers."""
    if key in piece.metrics:
        found = piece.metrics[key]
        return found.value, found.error, found.floor, found.floor_error
    r, n = piece.response, piece.counts
    if key != "response" or min(n.values()) < 2 or not r.reference_mean > 0:
        return math.nan, math.nan, math.nan, math.nan
    error = r.generated_std / math.sqrt(n["generated"]) / r.reference_mean
    spread = r.reference_std / math.sqrt(n["reference"]) / r.reference_mean
    return r.generated_mean / r.reference_mean, error, 1.0, spread
