"""Histograms of Geant4 and generated samples with their ratios, many to a page.

Legend: ``S`` samples, Geant4 first; ``B`` bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import Evaluation, Histogram
from caloforge.report.figures.marks import Floats, band, few_ticks, filled_stairs
from caloforge.report.figures.sheet import Drawing, Sheet, numbered_pages, panel_sheet
from caloforge.report.figures.style import (
    GENERATED,
    GENERATED_NAME,
    GENERATED_STYLE,
    REFERENCE,
    REFERENCE_FILL,
    REFERENCE_NAME,
    SampleStyle,
    model_styles,
)
from caloforge.report.words.text import raised

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "JoinedBins",
    "chosen_layers",
    "draw_distributions",
    "draw_histogram",
    "draw_layer_pages",
    "draw_single_pages",
    "join_bins",
]

RATIO_LIMIT = 0.5
MOST_ERROR = 0.3
"""Ratios of several samples are drawn where Geant4 is known to this relative error."""
TAIL = 0.001
"""Share of the entries of several samples left out at each end, of the sample that reaches farthest."""
SHARES = (0.1, 0.5, 0.9)
"""Layers are chosen where these shares of Geant4's mean energy are deposited in front of their end."""


@dataclass(frozen=True)
class JoinedBins:
    """Histograms ready to draw: edges (B + 1,), fractions per bin of each sample and their errors, (S, B)."""

    edges: Floats
    values: Floats
    errors: Floats


def join_bins(
    histograms: Sequence[Histogram], least_entries: float = 12.0, least_bins: int = 16, tail: float = 0.0
) -> JoinedBins:
    """Cut empty ends off, join bins that hold few entries, and divide by all entries of each sample.

    Bins are joined only to be looked at; the separation power belongs to the bins as they were filled.

    Args:
        histograms: one a generated sample, of the same quantity and reference.
        least_entries: that a typical bin should hold, in the sample with fewest.
        least_bins: that stay.
        tail: share of the entries left out at each end, of the sample that reaches farthest.
    """
    head = histograms[0]
    counts = np.stack([head.reference, *(h.generated for h in histograms)])
    squared = np.stack([head.reference_error, *(h.generated_error for h in histograms)]) ** 2
    outside = np.array([sum(head.reference_outside), *(sum(h.generated_outside) for h in histograms)])
    first, last = _span(counts, tail)
    typical = min((_typical(row) for row in counts[:, first:last] if (row > 0).any()), default=0.0)
    factor = 1
    while typical * factor < least_entries and (last - first) // (factor * 2) >= least_bins:
        factor *= 2
    starts = np.arange(first, last, factor)
    total = counts.sum(axis=1) / np.maximum(1 - outside, 1e-12)
    scale = np.where(total > 0, 1 / np.where(total > 0, total, 1.0), 0.0)[:, None]
    return JoinedBins(
        np.append(head.edges[starts], head.edges[last]),
        np.add.reduceat(counts[:, :last], starts, axis=1) * scale,
        np.sqrt(np.add.reduceat(squared[:, :last], starts, axis=1)) * scale,
    )


def _span(counts: Floats, tail: float) -> tuple[int, int]:
    """First bin and the one after the last that hold all but a ``tail`` of each sample at each end.

    Where nothing is left out, an empty bin stands at each end to show it.
    """
    reached = np.cumsum(counts, axis=1)[counts.sum(axis=1) > 0]
    if not len(reached):
        return 0, counts.shape[1]
    reached /= reached[:, -1:]
    first = int((reached > tail).argmax(axis=1).min())
    last = int((reached >= 1 - tail).argmax(axis=1).max()) + 1
    return (first, last) if tail else (max(first - 1, 0), min(last + 1, counts.shape[1]))


def _typical(entries: Floats) -> float:
    """Entries a bin below which a fifth of all entries lie: thin tails do not count, broad shoulders do."""
    ordered = np.sort(entries)
    return float(ordered[np.searchsorted(np.cumsum(ordered), 0.2 * ordered.sum())])


def draw_histogram(
    axes: Axes, below: Axes, histograms: Sequence[Histogram], styles: Sequence[SampleStyle], headroom: float
) -> None:
    """All samples and, below, their ratios to Geant4; ``headroom`` is the part of the height free for text.

    The errors of one sample are bands, those of several thin lines, without their thinnest tails.
    """
    several = len(styles) > 1
    head = histograms[0]
    joined = join_bins(histograms, 20.0, tail=TAIL) if several else join_bins(histograms)
    edges, values, errors = joined.edges, joined.values, joined.errors
    filled_stairs(axes, values[0], edges)
    for style, value in zip(styles, values[1:], strict=True):
        axes.stairs(value, edges, color=style.colour, linestyle=style.line, linewidth=1.1, label=style.name)
    if not several:
        for value, error, colour in zip(values, errors, (REFERENCE, styles[0].colour), strict=True):
            low = np.maximum(value - error, 1e-300) if head.log_y else value - error
            band(axes, edges, low, value + error, color=colour, alpha=0.25)
    top = float(values.max()) or 1.0
    if head.log_y and (values > 0).any():
        bottom = float(values[values > 0].min()) / 2
        axes.set_yscale("log")
        axes.set_ylim(bottom, top * (top / bottom) ** (headroom / (1 - headroom)))
    else:
        axes.set_ylim(0, top / (1 - headroom))
    if head.log_x and edges[0] > 0:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(labelbottom=False)
    _draw_ratios(below, joined, styles, log_x=head.log_x and edges[0] > 0)


def _draw_ratios(below: Axes, joined: JoinedBins, styles: Sequence[SampleStyle], *, log_x: bool) -> None:
    edges, reference, error = joined.edges, joined.values[0], joined.errors[0]
    several = len(styles) > 1
    known = error < MOST_ERROR * reference if several else reference > 0
    base = np.where(known, reference, np.nan)
    middle = np.sqrt(edges[1:] * edges[:-1]) if log_x else (edges[1:] + edges[:-1]) / 2
    band(below, edges, 1 - error / base, 1 + error / base, color=REFERENCE_FILL)
    below.axhline(1, color=REFERENCE, linewidth=0.7)
    for style, value, spread in zip(styles, joined.values[1:], joined.errors[1:], strict=True):
        ratio, e_ratio = value / base, spread / base
        look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0}
        if several:
            below.plot(np.repeat(edges, 2)[1:-1], np.repeat(ratio, 2), **look)
            below.vlines(middle, ratio - e_ratio, ratio + e_ratio, color=style.colour, linewidth=0.5)
            continue
        band(below, edges, ratio - e_ratio, ratio + e_ratio, color=style.colour, alpha=0.25)
        below.plot(np.repeat(edges, 2)[1:-1], np.repeat(ratio, 2), **look)
        for beyond, y, marker in (
            (ratio > 1 + RATIO_LIMIT, 1 + 0.9 * RATIO_LIMIT, "^"),
            (ratio < 1 - RATIO_LIMIT, 1 - 0.9 * RATIO_LIMIT, "v"),
        ):
            if beyond.any():
                y_beyond = np.full(beyond.sum(), y)
                below.plot(middle[beyond], y_beyond, marker, color=style.colour, markersize=2.5)
    below.set_ylim(1 - RATIO_LIMIT, 1 + RATIO_LIMIT)
    below.set_yticks([1 - RATIO_LIMIT / 2, 1, 1 + RATIO_LIMIT / 2], ["0.75", "1", "1.25"])


def _error_legend(page: Sheet, left: float) -> None:
    """The legend above panels of one generated sample."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=REFERENCE_FILL, edgecolor=REFERENCE, label=REFERENCE_NAME),
        Patch(facecolor="none", edgecolor=GENERATED, label=GENERATED_NAME),
        Patch(facecolor=GENERATED, alpha=0.25, label="statistical error"),
    ]
    page.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left - 0.008, 1 - 0.02 / page.height),
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
    return [
        _draw_layer_page(name, title, part, folder) for name, part in numbered_pages(group, histograms, 15)
    ]


def _draw_layer_page(name: str, title: str, part: Sequence[Histogram], folder: Path) -> Drawing:
    own_labels = len({_axis_label(histogram) for histogram in part}) > 1
    with panel_sheet(
        len(part),
        3,
        panel=(3.35, 2.5 if own_labels else 2.25),
        margins=(0.6, 0.1, 0.4 if own_labels else 0.54, 0.48),
        gaps=(0.2, 0.38 if own_labels else 0.3),
        small=True,
    ) as page:
        for k, histogram in enumerate(part):
            axes, below = page.ratio_panel(k, gap=0.06)
            draw_histogram(axes, below, [histogram], [GENERATED_STYLE], headroom=0.2)
            few_ticks(axes, below)
            if not own_labels:
                axes.set_title(_panel_title(histogram), pad=2.5, fontweight="bold")
            text = _separation_text(histogram)
            axes.text(0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize="small")
            page.label(k, axes, _axis_label(histogram), "fraction per bin", below)
            if own_labels:
                below.set_xlabel(_axis_label(histogram))
        _error_legend(page, 0.06)
        layers = [str(h.layer) for h in part if h.layer is not None]
        which = f", layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else ""
        worst = max(part, key=lambda h: h.separation.value)
        place = "" if worst.layer is None else f" in layer {worst.layer}"
        return page.save(
            folder,
            name,
            f"{title}{which}.",
            f"Histograms of {title.lower()}{which}, Geant4 and generated with their ratio; "
            f"the largest separation power is {_short(worst.separation.value)}{place}.",
        )


def _panel_title(histogram: Histogram) -> str:
    if histogram.layer is not None:
        return f"layer {histogram.layer}"
    return histogram.label.partition(" at ")[2] or histogram.label


def _axis_label(histogram: Histogram) -> str:
    """The label without the layer or energy, which the panel's title already gives."""
    if histogram.layer is None:
        return histogram.label.partition(" at ")[0]
    for join in (" in layer ", ", layer ", " of layer "):
        if f"{join}{histogram.layer}" in histogram.label:
            return histogram.label.replace(f"{join}{histogram.layer}", "")
    return histogram.label


def draw_single_pages(name: str, histograms: Sequence[Histogram], folder: Path) -> list[Drawing]:
    """Large panels, two in a row and up to four on a page, for features of the whole shower."""
    drawings = []
    for page_name, part in numbered_pages(name, histograms, 4):
        with panel_sheet(
            len(part), min(2, len(part)), panel=(5.3, 3.85), margins=(0.85, 0.15, 0.2, 0.6), gaps=(0.24, 0.26)
        ) as page:
            for k, histogram in enumerate(part):
                axes, below = page.ratio_panel(k)
                draw_histogram(axes, below, [histogram], [GENERATED_STYLE], headroom=0.32)
                axes.set_ylabel("fraction per bin")
                below.set_ylabel("ratio", loc="center")
                below.set_xlabel(histogram.label)
                axes.legend(loc="upper right", title=_separation_text(histogram), title_fontsize="small")
            labels = "; ".join(h.label for h in part)
            caption = f"{raised(labels)}."
            alt = f"Histograms with ratio panels, Geant4 and generated: {labels}."
            drawings.append(page.save(folder, page_name, caption, alt))
    return drawings


def chosen_layers(evaluation: Evaluation) -> list[int]:
    """Numbers of up to three layers: where 10 %, half and 90 % of Geant4's energy are reached."""
    numbers = [h.layer for h in evaluation.histograms if h.group == "e_layer" and h.layer is not None]
    energy = evaluation.profiles["longitudinal"].reference
    reached = np.searchsorted(np.cumsum(energy) / max(float(energy.sum()), 1e-300), SHARES)
    return [numbers[i] for i in dict.fromkeys(np.clip(reached, 0, len(numbers) - 1).tolist())]


def draw_distributions(
    evaluations: Mapping[str, Evaluation], folder: Path
) -> tuple[list[Drawing], list[Drawing]]:
    """Pages of several models' whole-shower distributions, and of chosen layers, one row a feature."""
    first = next(iter(evaluations.values()))
    named = [{h.name: h for h in e.histograms} for e in evaluations.values()]
    common = [h for h in first.histograms if all(h.name in names for names in named)]
    layers = chosen_layers(first)
    whole = [h.name for h in common if h.layer is None and h.group != "e_ratio_at_energy"]
    chosen = [h.name for h in common if h.layer in layers]
    styles = model_styles(list(evaluations))
    panels = [[[names[name] for names in named] for name in part] for part in (whole, chosen)]
    return (
        list(_overlay_pages("distributions", panels[0], styles, folder, columns=2, rows=2)),
        list(
            _overlay_pages(
                "distributions_layers", panels[1], styles, folder, columns=len(layers), rows=4, small=True
            )
        ),
    )


def _overlay_pages(
    name: str,
    panels: Sequence[Sequence[Histogram]],
    styles: Sequence[SampleStyle],
    folder: Path,
    *,
    columns: int,
    rows: int,
    small: bool = False,
) -> Iterator[Drawing]:
    for page_name, part in numbered_pages(name, panels, rows * columns):
        with panel_sheet(
            len(part),
            columns,
            panel=(10.4 / columns, 2.5 if small else 3.9),
            margins=(0.73, 0.12, 0.1, 0.55),
            gaps=(0.22, 0.36 if small else 0.27),
            small=small,
            models=styles,
        ) as page:
            for k, histograms in enumerate(part):
                axes, below = page.ratio_panel(k, above=2.4, gap=0.06)
                draw_histogram(axes, below, histograms, styles, headroom=0.1)
                below.set_xlabel(histograms[0].label)
                if small:
                    few_ticks(axes, below)
                page.label(k, axes, "", "fraction per bin", below)
            labels = "; ".join(dict.fromkeys(p[0].label for p in part))
            models = ", ".join(style.name for style in styles)
            alt = f"Histograms of Geant4 and {models}, with ratios to Geant4: {labels}."
            yield page.save(folder, page_name, f"{labels}.", alt)
