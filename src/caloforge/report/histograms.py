"""Histograms with ratio panels, many to a page. ``B`` bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import Histogram
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

__all__ = ["Bars", "bars", "draw_layer_pages", "draw_single_pages"]

Floats = NDArray[np.float64]
PANELS_A_PAGE = 15
COLUMNS = 3
RATIO_LIMIT = 0.5


@dataclass(frozen=True)
class Bars:
    """A histogram ready to draw: fractions per bin of each sample and their errors, (B,); edges (B + 1,)."""

    edges: Floats
    reference: Floats
    reference_error: Floats
    generated: Floats
    generated_error: Floats


def bars(histogram: Histogram, least_entries: float = 12.0, least_bins: int = 16) -> Bars:
    """Cut empty ends off, join bins that hold few entries, and divide by all entries of each sample.

    Bins are joined only to be looked at; the separation power belongs to the bins as they were filled.
    """
    counts = np.stack([histogram.reference, histogram.generated])
    errors = np.stack([histogram.reference_error, histogram.generated_error])
    filled = np.flatnonzero(counts.sum(axis=0) > 0)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, counts.shape[1])
    first, last = max(first - 1, 0), min(last + 1, counts.shape[1])
    factor = 1
    inner = counts[:, first:last]
    typical = min((_typical(row) for row in inner if (row > 0).any()), default=0.0)
    while typical * factor < least_entries and (last - first) // (factor * 2) >= least_bins:
        factor *= 2
    starts = np.arange(first, last, factor)
    stops = np.minimum(starts + factor, last)
    edges = np.concatenate([histogram.edges[starts], histogram.edges[stops[-1:]]])
    joined = np.add.reduceat(counts[:, :last], starts, axis=1)
    squared = np.add.reduceat(errors[:, :last] ** 2, starts, axis=1)
    outside = np.array([sum(histogram.reference_outside), sum(histogram.generated_outside)])
    total = counts.sum(axis=1) / np.maximum(1 - outside, 1e-12)
    scale = np.where(total > 0, 1 / np.where(total > 0, total, 1.0), 0.0)[:, None]
    (reference, generated), (e_ref, e_gen) = joined * scale, np.sqrt(squared) * scale
    return Bars(edges, reference, e_ref, generated, e_gen)


def _typical(entries: Floats) -> float:
    """Entries a bin below which a fifth of all entries lie: thin tails do not count, broad shoulders do."""
    ordered = np.sort(entries)
    return float(ordered[np.searchsorted(np.cumsum(ordered), 0.2 * ordered.sum())])


def _band(axes: Axes, edges: Floats, low: Floats, high: Floats, **style: Any) -> None:
    """A band between two step functions; bins that are not finite are left out."""
    good = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(
        np.repeat(edges, 2)[1:-1],
        np.repeat(low, 2),
        np.repeat(high, 2),
        where=np.repeat(good, 2).tolist(),
        linewidth=0,
        **style,
    )


def _draw(axes: Axes, below: Axes, histogram: Histogram, headroom: float) -> None:
    """Both samples and, below, their ratio; ``headroom`` is the part of the height kept free for text."""
    data = bars(histogram)
    edges = data.edges
    axes.stairs(data.reference, edges, fill=True, color=REFERENCE_FILL, label=REFERENCE_NAME)
    axes.stairs(data.reference, edges, color=REFERENCE, linewidth=0.9)
    axes.stairs(data.generated, edges, color=GENERATED, linewidth=1.1, label=GENERATED_NAME)
    for value, error, colour in (
        (data.reference, data.reference_error, REFERENCE),
        (data.generated, data.generated_error, GENERATED),
    ):
        low = np.maximum(value - error, 1e-300) if histogram.log_y else value - error
        _band(axes, edges, low, value + error, color=colour, alpha=0.25)
    joint = np.concatenate([data.reference, data.generated])
    top = float(joint.max()) or 1.0
    if histogram.log_y and (joint > 0).any():
        bottom = float(joint[joint > 0].min()) / 2
        axes.set_yscale("log")
        axes.set_ylim(bottom, top * (top / bottom) ** (headroom / (1 - headroom)))
    else:
        axes.set_ylim(0, top / (1 - headroom))
    if histogram.log_x and edges[0] > 0:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(labelbottom=False)

    base = np.where(data.reference > 0, data.reference, np.nan)
    ratio, e_ratio, e_one = (x / base for x in (data.generated, data.generated_error, data.reference_error))
    _band(below, edges, 1 - e_one, 1 + e_one, color=REFERENCE_FILL)
    below.axhline(1, color=REFERENCE, linewidth=0.7)
    _band(below, edges, ratio - e_ratio, ratio + e_ratio, color=GENERATED, alpha=0.25)
    below.plot(np.repeat(edges, 2)[1:-1], np.repeat(ratio, 2), color=GENERATED, linewidth=1.0)
    middle = (
        np.sqrt(edges[1:] * edges[:-1]) if histogram.log_x and edges[0] > 0 else (edges[1:] + edges[:-1]) / 2
    )
    for beyond, y, marker in (
        (ratio > 1 + RATIO_LIMIT, 1 + 0.9 * RATIO_LIMIT, "^"),
        (ratio < 1 - RATIO_LIMIT, 1 - 0.9 * RATIO_LIMIT, "v"),
    ):
        if beyond.any():
            below.plot(middle[beyond], np.full(beyond.sum(), y), marker, color=GENERATED, markersize=2.5)
    below.set_ylim(1 - RATIO_LIMIT, 1 + RATIO_LIMIT)
    below.set_yticks([1 - RATIO_LIMIT / 2, 1, 1 + RATIO_LIMIT / 2], ["0.75", "1", "1.25"])


def _few_ticks(axes: Axes, below: Axes) -> None:
    """Three or so labels an axis: ticks are most of the time that a page of many panels takes to draw."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.xaxis.set_visible(False)
    for axis, name in ((axes.yaxis, axes.get_yscale()), (below.xaxis, below.get_xscale())):
        axis.set_major_locator(LogLocator(numticks=5) if name == "log" else MaxNLocator(4))
        axis.set_minor_locator(NullLocator())


def _legend(figure: Figure, height: float, left: float) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=REFERENCE_FILL, edgecolor=REFERENCE, label=REFERENCE_NAME),
        Patch(facecolor="none", edgecolor=GENERATED, label=GENERATED_NAME),
        Patch(facecolor=GENERATED, alpha=0.25, label="statistical error"),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left - 0.008, 1 - 0.02 / height),
        ncols=3,
        borderaxespad=0.2,
        columnspacing=1.5,
    )


def _separation_text(histogram: Histogram) -> str:
    separation = histogram.separation
    return f"S = {_short(separation.value)}  (by chance {_short(separation.floor)})"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 1e-3 else f"{value:.4f}"


def draw_layer_pages(group: str, title: str, histograms: Sequence[Histogram], folder: Path) -> list[Drawing]:
    """Pages of a panel a histogram, each with its ratio and separation power."""
    drawings = []
    starts = range(0, len(histograms), PANELS_A_PAGE)
    for page, start in enumerate(starts, start=1):
        part = histograms[start : start + PANELS_A_PAGE]
        rows = -(-len(part) // COLUMNS)
        own_labels = len({_axis_label(histogram) for histogram in part}) > 1
        panel, top, bottom = 2.5 if own_labels else 2.3, 0.34, 0.48
        height = top + rows * panel + bottom
        with figure_style(small=True):
            figure = new_figure(10.0, height)
            grid = figure.add_gridspec(
                rows,
                COLUMNS,
                left=0.06,
                right=0.99,
                wspace=0.2,
                hspace=0.38 if own_labels else 0.3,
                top=1 - (top + (0.05 if own_labels else 0.2)) / height,
                bottom=bottom / height,
            )
            for k, histogram in enumerate(part):
                row, column = divmod(k, COLUMNS)
                pair = grid[row, column].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.06)
                axes = figure.add_subplot(pair[0])
                below = figure.add_subplot(pair[1], sharex=axes)
                _draw(axes, below, histogram, headroom=0.2)
                _few_ticks(axes, below)
                if not own_labels:
                    axes.set_title(_panel_title(histogram), pad=2.5, fontweight="bold")
                axes.text(
                    0.98,
                    0.96,
                    _separation_text(histogram),
                    transform=axes.transAxes,
                    ha="right",
                    va="top",
                    fontsize="small",
                )
                if column == 0:
                    axes.set_ylabel("fraction per bin")
                    below.set_ylabel("ratio", loc="center")
                if own_labels or k + COLUMNS >= len(part):
                    below.set_xlabel(_axis_label(histogram))
            _legend(figure, height, 0.06)
            layers = [str(h.layer) for h in part if h.layer is not None]
            which = f", layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else ""
            worst = max(part, key=lambda h: h.separation.value)
            name = f"{group}_{page}" if len(starts) > 1 else group
            drawings.append(
                save(
                    figure,
                    folder,
                    name,
                    f"{title}{which}, with ratios generated / Geant4.",
                    f"Histograms of {title.lower()}{which}, Geant4 and generated with their ratio; "
                    f"the largest separation power is {_short(worst.separation.value)}"
                    + (f" in layer {worst.layer}." if worst.layer is not None else "."),
                )
            )
    return drawings


def _panel_title(histogram: Histogram) -> str:
    if histogram.layer is not None:
        return f"layer {histogram.layer}"
    return histogram.label.partition(" at ")[2] or histogram.label


def _axis_label(histogram: Histogram) -> str:
    """The label without the layer or energy, which the panel's title already gives."""
    if histogram.layer is None:
        return histogram.label.partition(" at ")[0]
    for tail in (
        f" in layer {histogram.layer}",
        f", layer {histogram.layer}",
        f" of layer {histogram.layer}",
    ):
        if tail in histogram.label:
            return histogram.label.replace(tail, "")
    return histogram.label


def draw_single_pages(name: str, histograms: Sequence[Histogram], folder: Path) -> list[Drawing]:
    """Large panels, two in a row and up to four on a page, for features of the whole shower."""
    drawings = []
    starts = range(0, len(histograms), 4)
    for page, start in enumerate(starts, start=1):
        part = histograms[start : start + 4]
        columns = min(2, len(part))
        rows = -(-len(part) // columns)
        height = 0.1 + rows * 4.3
        with figure_style():
            figure = new_figure(5.2 * columns + 0.2, height)
            grid = figure.add_gridspec(
                rows,
                columns,
                left=0.145 / columns + 0.01,
                right=0.985,
                wspace=0.24,
                hspace=0.26,
                top=1 - 0.2 / height,
                bottom=0.6 / height,
            )
            for k, histogram in enumerate(part):
                pair = grid[divmod(k, columns)].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
                axes = figure.add_subplot(pair[0])
                below = figure.add_subplot(pair[1], sharex=axes)
                _draw(axes, below, histogram, headroom=0.32)
                axes.set_ylabel("fraction per bin")
                below.set_ylabel("ratio", loc="center")
                below.set_xlabel(histogram.label)
                axes.legend(loc="upper right", title=_separation_text(histogram), title_fontsize="small")
            labels = "; ".join(h.label for h in part)
            drawings.append(
                save(
                    figure,
                    folder,
                    f"{name}_{page}" if len(starts) > 1 else name,
                    f"{labels[:1].upper()}{labels[1:]}.",
                    f"Histograms with ratio panels, Geant4 and generated: {labels}.",
                )
            )
    return drawings
