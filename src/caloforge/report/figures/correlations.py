"""Correlation matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import Correlation
from caloforge.report.figures.sheet import Drawing, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["difference_limit", "draw_correlations"]

MOST_TICKS = 10


def difference_limit(correlation: Correlation) -> float:
    """End of the symmetric colour scale of the differences: the largest one, rounded up to a tenth."""
    difference = np.abs(correlation.generated - correlation.reference)
    largest = float(np.max(difference[np.isfinite(difference)], initial=0.0))
    return float(np.clip(np.ceil(10 * largest) / 10, 0.1, 2.0))


def draw_correlations(correlations: Mapping[str, Correlation], folder: Path) -> dict[str, Drawing]:
    """Geant4, generated and their difference for each set of quantities; on scales symmetric about zero."""
    return {name: _draw(part, folder) for name, part in correlations.items() if len(part.labels) > 1}


def _draw(correlation: Correlation, folder: Path) -> Drawing:
    from matplotlib.colors import Normalize

    limit = difference_limit(correlation)
    matrices = (
        (REFERENCE_NAME, correlation.reference, 1.0),
        (GENERATED_NAME, correlation.generated, 1.0),
        (f"{GENERATED_NAME} − {REFERENCE_NAME}", correlation.generated - correlation.reference, limit),
    )
    cells = correlation.name == "cells"
    left, side, gap, bottom = (0.85 if cells else 0.6), 3.0, 0.2, (1.75 if cells else 1.35)
    with sheet(left + 3 * side + 2 * gap + 0.15, bottom + side + 0.35) as page:
        for k, (title, matrix, reach) in enumerate(matrices):
            axes = page.axes(left + k * (side + gap), bottom, side, side)
            axes.imshow(
                np.ma.masked_invalid(matrix),
                cmap="RdBu_r",
                vmin=-reach,
                vmax=reach,
                origin="lower",
                interpolation="nearest",
            )
            axes.set_facecolor("#b8bcc2")
            axes.set_title(title, fontsize="medium")
            _label(axes, correlation, cells, first=k == 0)
        for first, columns, reach, label in (
            (0, 2, 1.0, "correlation coefficient"),
            (2, 1, limit, "difference"),
        ):
            span = columns * side + (columns - 1) * gap
            axes = page.axes(left + first * (side + gap) + 0.1 * span, 0.55, 0.8 * span, 0.12)
            page.colour_bar(axes, Normalize(-reach, reach), "RdBu_r", label)
        what = f"{correlation.name} (energy / E_inc)"
        return page.save(
            folder,
            f"correlation_{correlation.name}",
            f"Correlations between {what}; grey where a quantity never varies. The scale of the differences "
            f"ends at ±{limit:g}.",
            f"Matrices of correlation coefficients between {what}: Geant4, generated and their difference.",
        )


def _label(axes: Axes, correlation: Correlation, cells: bool, first: bool) -> None:
    n = len(correlation.labels)
    at = np.arange(0, n, max(1, -(-n // MOST_TICKS)))
    names = [correlation.labels[i] for i in at]
    axes.set_xticks(at, names, rotation=90 if cells else 0, fontsize="small")
    axes.set_yticks(at, names if first else [], fontsize="small")
    axes.tick_params(which="both", direction="out", top=False, right=False, length=3)
    axes.tick_params(which="minor", left=False, bottom=False)
    label = "cell (z/φ/r)" if cells else "layer"
    axes.set_xlabel(label, loc="center")
    if first:
        axes.set_ylabel(label, loc="center")
