"""Correlation matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import Correlation, SensorCorrelation
from caloforge.report.figures.marks import Floats, scale_end
from caloforge.report.figures.sheet import Drawing, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["difference_limit", "draw_correlations", "draw_sensor_correlations"]

MOST_TICKS = 10


def difference_limit(correlation: Correlation | SensorCorrelation) -> float:
    """End of the symmetric colour scale of the differences: the largest one, rounded up to a tenth."""
    return scale_end(correlation.generated - correlation.reference, 10, 2.0)


def draw_correlations(correlations: Mapping[str, Correlation], folder: Path) -> dict[str, Drawing]:
    """Geant4, generated and their difference for each set of quantities; on scales symmetric about zero."""
    return {name: _draw(part, folder) for name, part in correlations.items() if len(part.labels) > 1}


def _draw(correlation: Correlation, folder: Path) -> Drawing:
    cells = correlation.name == "cells"
    what = f"{correlation.name} (energy / E_inc)"
    limit = difference_limit(correlation)
    return _draw_matrices(
        _Matrices(
            correlation.labels,
            correlation.reference,
            correlation.generated,
            limit,
            axis="cell (z/φ/r)" if cells else "layer",
            upright=not cells,
        ),
        folder,
        f"correlation_{correlation.name}",
        f"Correlations between {what}. Grey: never varies.",
        f"Matrices of correlation coefficients between {what}: Geant4, generated and their difference.",
    )


def draw_sensor_correlations(
    correlations: Mapping[str, SensorCorrelation], folder: Path
) -> dict[str, Drawing]:
    """The same for rank correlations between sensors, with lines between the layers."""
    drawn = {}
    for name, part in correlations.items():
        limit = difference_limit(part)
        layers = [label.split(".")[0] for label in part.names]
        itself = np.eye(len(part.names), dtype=bool)
        matrices = _Matrices(
            part.names,
            np.where(itself, np.nan, part.reference),
            np.where(itself, np.nan, part.generated),
            limit,
            axis="sensor",
            upright=False,
            reach=_reach(part),
            lines=tuple(i for i in range(1, len(layers)) if layers[i] != layers[i - 1]),
        )
        drawn[name] = _draw_matrices(
            matrices,
            folder,
            f"correlation_{name}",
            f"Rank correlations (Spearman) between the sensors’ {part.label}.",
            f"Matrices of rank correlations of the sensors’ {part.label}: Geant4, generated, difference.",
        )
    return drawn


def _reach(correlation: SensorCorrelation) -> float:
    """End of the scale of the correlations: the largest off the diagonal, rounded up to a tenth."""
    off = ~np.eye(len(correlation.names), dtype=bool)
    return scale_end(np.stack([correlation.reference[off], correlation.generated[off]]), 10, 1.0)


@dataclass(frozen=True, eq=False)
class _Matrices:
    """Two matrices with the same rows and columns.

    Attributes:
        labels: of the rows.
        reference, generated: values, NaN where there is none.
        limit: end of the scale of their difference.
        axis: what rows and columns are.
        upright: whether labels along x stand upright.
        reach: end of the scale of the values.
        lines: rows in front of which a line is drawn.
    """

    labels: Sequence[str]
    reference: Floats
    generated: Floats
    limit: float
    axis: str
    upright: bool = True
    reach: float = 1.0
    lines: Sequence[int] = ()


def _draw_matrices(matrices: _Matrices, folder: Path, name: str, caption: str, alt: str) -> Drawing:
    """Geant4, generated and their difference side by side."""
    from matplotlib.colors import Normalize

    limit, reach = matrices.limit, matrices.reach
    panels = (
        (REFERENCE_NAME, matrices.reference, reach),
        (GENERATED_NAME, matrices.generated, reach),
        (f"{GENERATED_NAME} − {REFERENCE_NAME}", matrices.generated - matrices.reference, limit),
    )
    left, side, gap, bottom = (0.6, 3.0, 0.2, 1.35) if matrices.upright else (0.85, 3.0, 0.2, 1.75)
    with sheet(left + 3 * side + 2 * gap + 0.15, bottom + side + 0.35) as page:
        for k, (title, matrix, end) in enumerate(panels):
            axes = page.axes(left + k * (side + gap), bottom, side, side)
            axes.imshow(
                np.ma.masked_invalid(matrix),
                cmap="RdBu_r",
                vmin=-end,
                vmax=end,
                origin="lower",
                interpolation="nearest",
            )
            for line in matrices.lines:
                axes.axhline(line - 0.5, color="#4a4f57", linewidth=0.6)
                axes.axvline(line - 0.5, color="#4a4f57", linewidth=0.6)
            axes.set_facecolor("#b8bcc2")
            axes.set_title(title, fontsize="medium")
            _label(axes, matrices, first=k == 0)
        for first, columns, end, label in (
            (0, 2, reach, "correlation coefficient"),
            (2, 1, limit, "difference"),
        ):
            span = columns * side + (columns - 1) * gap
            axes = page.axes(left + first * (side + gap) + 0.1 * span, 0.55, 0.8 * span, 0.12)
            page.colour_bar(axes, Normalize(-end, end), "RdBu_r", label)
        return page.save(folder, name, caption, alt)


def _label(axes: Axes, matrices: _Matrices, first: bool) -> None:
    n = len(matrices.labels)
    at = range(0, n, max(1, -(-n // MOST_TICKS)))
    names = [matrices.labels[i] for i in at]
    axes.set_xticks(at, names, rotation=0 if matrices.upright else 90, fontsize="small")
    axes.set_yticks(at, names if first else [], fontsize="small")
    axes.tick_params(which="both", direction="out", top=False, right=False, length=3)
    axes.tick_params(which="minor", left=False, bottom=False)
    axes.set_xlabel(matrices.axis, loc="center")
    if first:
        axes.set_ylabel(matrices.axis, loc="center")
