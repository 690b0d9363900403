"""Figures of statistical amplification and of the upsampling test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.amplification import AmplificationCurve, AmplificationResult
from caloforge.evaluation.upsampling import UpsamplingResult
from caloforge.report.figures.marks import points
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import (
    GENERATED,
    GENERATED_NAME,
    REFERENCE,
    REFERENCE_FILL,
    REFERENCE_NAME,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_amplification", "draw_upsampling"]

MARKERS = "osD^v"


def draw_amplification(result: AmplificationResult, folder: Path) -> Drawing:
    """Error against sample size, a panel a curve: generated showers, the training sample, true showers."""
    columns = min(3, len(result.curves))
    with panel_sheet(
        len(result.curves), columns, panel=(4.2, 2.8), margins=(0.85, 0.12, 0.75, 0.6), gaps=(0.28, 0.42)
    ) as page:
        for k, curve in enumerate(result.curves):
            axes = page.panel(k)
            _draw_curve(axes, curve, result.counts["training"])
            page.label(k, axes, "showers", r"$\sum_j\,(x_j - 1/Q)^2$")
        handles, labels = axes.get_legend_handles_labels()
        page.figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0.6 / page.width, 1 - 0.02 / page.height),
            ncols=4,
            columnspacing=1.2,
            handletextpad=0.5,
        )
        factors = ", ".join(f"{c.name} ({c.bins} bins) {_factor(c)}" for c in result.curves)
        return page.save(
            folder,
            "amplification",
            "Error in bins of equal truth probability against the size of a sample. Arrow: amplification, to "
            "the true sample of the same error.",
            f"Error against number of showers for generated and true samples. Amplification: {factors}.",
            svg=True,
        )


def _draw_curve(axes: Axes, curve: AmplificationCurve, n: int) -> None:
    good = curve.errors > 0
    span = np.array([min(n, curve.sizes[0]), max(n, curve.sizes[-1], np.nan_to_num(curve.equivalent))])
    span = span * np.array([0.7, 1.4])
    scatter = min(0.99, float(np.sqrt(2 / (curve.bins - 1))))  # relative, of a true sample's error in Q bins
    low, high = (np.maximum(curve.constant / span * (1 + s * scatter), 1e-300) for s in (-1, 1))
    axes.fill_between(span, low, high, color=REFERENCE_FILL, linewidth=0)
    axes.plot(span, curve.constant / span, color=REFERENCE, label=REFERENCE_NAME)
    sizes, errors, spread = curve.sizes[good], curve.errors[good], curve.errors_std[good]
    points(
        axes, sizes, errors, spread, GENERATED, "o", GENERATED_NAME, size=3.5, linestyle="-", linewidth=1.0
    )
    axes.plot(n, curve.training_error, "*", color=REFERENCE, markersize=10, label="training sample")
    axes.axvline(n, color=REFERENCE, linewidth=0.8, linestyle=":")
    if np.isfinite(curve.equivalent):
        height = curve.constant / curve.equivalent
        arrow = {"arrowstyle": "->", "color": GENERATED, "linewidth": 1.2}
        axes.annotate("", xy=(curve.equivalent, height), xytext=(n, height), arrowprops=arrow)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*span)
    axes.set_ylim(0.3 * curve.constant / span[1], 1.5 * max(curve.constant / span[0], curve.errors.max()))
    axes.set_title(f"{curve.name}, {curve.bins} bins", fontsize="medium", pad=4)
    text = f"factor {_factor(curve)}"
    axes.text(0.96, 0.94, text, transform=axes.transAxes, ha="right", va="top", color=GENERATED)


def _factor(curve: AmplificationCurve) -> str:
    if not np.isfinite(curve.amplification):
        return f"> {curve.amplification_low:.2g}"
    return f"{curve.amplification:.3g}" if curve.amplification < 1000 else f"{curve.amplification:,.0f}"


def draw_upsampling(result: UpsamplingResult, folder: Path) -> Drawing:
    """AUC and JSD against the number of coarse showers, with those of plain copies dashed."""
    with panel_sheet(2, 2, panel=(4.6, 3.45), margins=(0.78, 0.14, 0.12, 0.63), gaps=(0.24, 0.0)) as page:
        axes = page.panel(0)
        _draw_scores(axes, result, "auc", 0.5, "AUC")
        axes.legend()
        _draw_scores(page.panel(1), result, "jsd", 0.0, "JSD [bit]")
        aucs = "; ".join(
            f"{point.coarse}: " + ", ".join(f"{n} AUC {s.auc.value:.3f}" for n, s in point.scores.items())
            for point in result.points
        )
        return page.save(
            folder,
            "upsampling",
            "AUC and JSD of fine showers made of few coarse ones; of reference showers repeated as often.",
            f"AUC and JSD against the number of coarse showers: {aucs}.",
            svg=True,
        )


def _draw_scores(axes: Axes, result: UpsamplingResult, quantity: str, chance: float, label: str) -> None:
    coarse = np.array([point.coarse for point in result.points], dtype=np.float64)
    for i, name in enumerate(result.points[0].scores):
        for copies in (False, True):
            scores = [(p.copies if copies else p.scores).get(name) for p in result.points]
            values = [getattr(score, quantity) if score else None for score in scores]
            points(
                axes,
                coarse,
                np.array([np.nan if v is None else v.value for v in values]),
                np.array([0.0 if v is None or np.isnan(v.error) else v.error for v in values]),
                REFERENCE if copies else GENERATED,
                MARKERS[i % len(MARKERS)],
                f"{'copies' if copies else 'upsampled'}, {name}",
                size=5,
                linestyle="--" if copies else "-",
                markerfacecolor="white" if i % 2 else None,
            )
    axes.axhline(chance, color=REFERENCE, linewidth=0.7, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks(coarse, [f"{n:,.0f}" for n in coarse])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("coarse showers")
    axes.set_ylabel(label)
