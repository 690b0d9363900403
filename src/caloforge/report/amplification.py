"""Figures of statistical amplification and of the upsampling test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.amplification import AmplificationCurve, AmplificationResult
from caloforge.evaluation.upsampling import UpsamplingResult
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_amplification", "draw_upsampling"]

COLUMNS = 3
MARKERS = "osD^v"


def draw_amplification(result: AmplificationResult, folder: Path) -> Drawing:
    """Error against sample size, a panel a curve: generated showers, the training sample, true showers."""
    columns = min(COLUMNS, len(result.curves))
    rows = -(-len(result.curves) // columns)
    width, height = 4.1 * columns + 0.3, 3.5 * rows + 0.5
    with figure_style():
        figure = new_figure(width, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.85 / width,
            right=1 - 0.12 / width,
            top=1 - 0.75 / height,
            bottom=0.6 / height,
            wspace=0.28,
            hspace=0.42,
        )
        for i, curve in enumerate(result.curves):
            axes = figure.add_subplot(grid[i // columns, i % columns])
            _draw_curve(axes, curve, result.counts["training"])
            if i % columns == 0:
                axes.set_ylabel(r"$\sum_j\,(x_j - 1/Q)^2$")
            if i + columns >= len(result.curves):
                axes.set_xlabel("showers")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0.6 / width, 1 - 0.02 / height),
            ncols=4,
            columnspacing=1.2,
            handletextpad=0.5,
        )
        worth = ", ".join(f"{c.name} ({c.bins} bins) {_short(c)}" for c in result.curves)
        return _save(
            figure,
            folder,
            "amplification",
            "Error of generated samples in bins of equal truth probability against their size; the arrow is "
            "the amplification, from the training sample to the true sample of the same error.",
            f"Error against number of showers for generated and true samples. Amplification: {worth}.",
        )


def _save(figure: Figure, folder: Path, name: str, caption: str, alt: str) -> Drawing:
    """PDF and PNG, and an SVG for slides."""
    from matplotlib import rc_context

    drawing = save(figure, folder, name, caption, alt)
    with rc_context({"svg.hashsalt": name}):  # the same figure is the same file
        figure.savefig(folder / f"{name}.svg", metadata={"Creator": "caloforge", "Date": None})
    return drawing


def _draw_curve(axes: Axes, curve: AmplificationCurve, n: int) -> None:
    good = curve.errors > 0
    sizes, errors = curve.sizes[good], curve.errors[good]
    span = np.array([min(n, curve.sizes[0]), max(n, curve.sizes[-1], np.nan_to_num(curve.equivalent))])
    span = span * np.array([0.7, 1.4])
    axes.fill_between(
        span,
        *(np.maximum(curve.constant / span * (1 + s * _scatter(curve)), 1e-300) for s in (-1, 1)),
        color=REFERENCE_FILL,
        linewidth=0,
    )
    axes.plot(span, curve.constant / span, color=REFERENCE, label=REFERENCE_NAME)
    axes.errorbar(
        sizes,
        errors,
        yerr=curve.errors_std[good],
        color=GENERATED,
        marker="o",
        markersize=3.5,
        linewidth=1.0,
        elinewidth=1.0,
        label=GENERATED_NAME,
    )
    axes.plot(n, curve.training_error, "*", color=REFERENCE, markersize=10, label="training sample")
    axes.axvline(n, color=REFERENCE, linewidth=0.8, linestyle=":")
    if np.isfinite(curve.equivalent):
        axes.annotate(
            "",
            xy=(curve.equivalent, curve.constant / curve.equivalent),
            xytext=(n, curve.constant / curve.equivalent),
            arrowprops={"arrowstyle": "->", "color": GENERATED, "linewidth": 1.2},
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*span)
    axes.set_ylim(0.3 * curve.constant / span[1], 1.5 * max(curve.constant / span[0], curve.errors.max()))
    axes.set_title(f"{curve.name}, {curve.bins} bins", fontsize="medium", pad=4)
    axes.text(
        0.96, 0.94, f"factor {_short(curve)}", transform=axes.transAxes, ha="right", va="top", color=GENERATED
    )


def _scatter(curve: AmplificationCurve) -> float:
    """Relative standard deviation of the error of a true sample in Q bins."""
    return min(0.99, float(np.sqrt(2 / (curve.bins - 1))))


def _short(curve: AmplificationCurve) -> str:
    if not np.isfinite(curve.amplification):
        return f"> {curve.amplification_low:.2g}"
    return f"{curve.amplification:.3g}" if curve.amplification < 1000 else f"{curve.amplification:,.0f}"


def draw_upsampling(result: UpsamplingResult, folder: Path) -> Drawing:
    """AUC and JSD against the number of coarse showers, with those of plain copies dashed."""
    coarse = np.array([point.coarse for point in result.points], dtype=np.float64)
    names = list(result.points[0].scores)
    with figure_style():
        figure = new_figure(9.2, 4.2)
        grid = figure.add_gridspec(1, 2, left=0.085, right=0.985, top=0.97, bottom=0.15, wspace=0.24)
        for k, quantity in enumerate(("auc", "jsd")):
            axes = figure.add_subplot(grid[k])
            for i, name in enumerate(names):
                for copies in (False, True):
                    scores = [(p.copies if copies else p.scores).get(name) for p in result.points]
                    values = [getattr(score, quantity) if score else None for score in scores]
                    axes.errorbar(
                        coarse,
                        [np.nan if v is None else v.value for v in values],
                        yerr=[0.0 if v is None or np.isnan(v.error) else v.error for v in values],
                        color=REFERENCE if copies else GENERATED,
                        marker=MARKERS[i % len(MARKERS)],
                        linestyle="--" if copies else "-",
                        markersize=5,
                        elinewidth=1,
                        markerfacecolor="white" if i % 2 else None,
                        label=f"{'copies' if copies else 'upsampled'}, {name}",
                    )
            axes.axhline(0.5 if quantity == "auc" else 0.0, color=REFERENCE, linewidth=0.7, linestyle=":")
            axes.set_xscale("log")
            axes.set_xticks(coarse, [f"{n:,.0f}" for n in coarse])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("coarse showers")
            axes.set_ylabel("AUC" if quantity == "auc" else "JSD [bit]")
            if k == 0:
                axes.legend()
        return _save(
            figure,
            folder,
            "upsampling",
            "AUC and JSD, against the reference, of fine showers made of few coarse ones, and of that many "
            "reference showers repeated as often.",
            "AUC and JSD against the number of coarse showers: "
            + "; ".join(
                f"{point.coarse}: " + ", ".join(f"{n} AUC {s.auc.value:.3f}" for n, s in point.scores.items())
                for point in result.points
            )
            + ".",
        )
