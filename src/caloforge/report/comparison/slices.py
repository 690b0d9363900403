"""Quality of several models in bins of the incident energy and other conditions: is it uniform?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caloforge.evaluation.results import Evaluation, Slice
from caloforge.report.comparison.style import ModelStyle, legend, legend_height, model_styles
from caloforge.report.style import REFERENCE, REFERENCE_FILL, Drawing, figure_style, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_slices"]

LABELS = {"energy": "incident energy [GeV]", "theta": "θ [rad]", "phi": "φ [rad]"}


def draw_slices(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """AUCs and ratios of the responses in every bin of each condition that varies, one figure each."""
    drawings = []
    styles = model_styles(list(evaluations))
    for condition, label in LABELS.items():
        per_model = [[s for s in e.slices if s.condition == condition] for e in evaluations.values()]
        if min(len(slices) for slices in per_model) < 2:
            continue
        found = [key for s in per_model[0] for key in s.metrics if key.startswith("auc_")]
        keys = [*dict.fromkeys(found), "response"]
        top = legend_height(styles) + 0.1
        height = top + 3.6
        with figure_style():
            figure = new_figure(4.3 * len(keys), height)
            grid = figure.add_gridspec(
                1,
                len(keys),
                left=0.22 / len(keys),
                right=0.985,
                wspace=0.32,
                top=1 - top / height,
                bottom=0.17,
            )
            for k, key in enumerate(keys):
                axes = figure.add_subplot(grid[k])
                _draw(axes, key, per_model, styles, 1000.0 if condition == "energy" else 1.0)
                axes.set_xlabel(label)
            legend(figure, styles, 0.15 / len(keys), lines=False)
            words = ["ratio of the responses" if k == "response" else f"AUC {k[4:]}" for k in keys]
            drawings.append(
                save(
                    figure,
                    folder,
                    f"slices_{condition}",
                    f"Quality in bins of the {label.partition(' [')[0]}: {', '.join(words)}. Grey bands are "
                    "what equal samples give, one standard deviation.",
                    f"{', '.join(words)} of {', '.join(evaluations)} against {label}.",
                )
            )
    return drawings


def _draw(
    axes: Axes, key: str, per_model: Sequence[Sequence[Slice]], styles: Sequence[ModelStyle], unit: float
) -> None:
    """One quantity of all models; those of a bin stand side by side."""
    log = unit != 1.0
    for i, (slices, style) in enumerate(zip(per_model, styles, strict=True)):
        shift = (i + 1) / (len(styles) + 1)
        for piece in slices:
            value, error, floor, spread = _number(piece, key)
            low, high = piece.low / unit, piece.high / unit
            x = low * (high / low) ** shift if log else low + shift * (high - low)
            axes.errorbar(
                x, value, yerr=error, color=style.colour, marker=style.marker, markersize=4.5, elinewidth=1
            )
            if i == 0:
                axes.fill_between(
                    [low, high], floor - spread, floor + spread, color=REFERENCE_FILL, linewidth=0, zorder=0
                )
                axes.plot([low, high], [floor, floor], color=REFERENCE, linewidth=0.8, zorder=1)
    if log:
        axes.set_xscale("log")
    axes.set_ylabel("response, generated / Geant4" if key == "response" else f"AUC {key[4:]}")


def _number(piece: Slice, key: str) -> tuple[float, float, float, float]:
    """Value, error, and what equal samples give with its error; NaN where the bin has too few showers."""
    if key != "response":
        found = piece.metrics.get(key)
        if found is None:
            return math.nan, math.nan, math.nan, math.nan
        return found.value, found.error, found.floor, found.floor_error
    r = piece.response
    n = min(piece.counts.values())
    if n < 2 or not r.reference_mean > 0:
        return math.nan, math.nan, math.nan, math.nan
    ratio = r.generated_mean / r.reference_mean
    own = r.generated_std / math.sqrt(piece.counts["generated"]) / r.reference_mean
    spread = r.reference_std / math.sqrt(piece.counts["reference"]) / r.reference_mean
    return ratio, own, 1.0, spread
