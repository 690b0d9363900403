"""Distributions and profiles of Geant4 and several models in the same axes, with their ratios to Geant4.

Legend: ``M`` models, ``B`` bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import Evaluation, Histogram, Profile
from caloforge.report.comparison.style import ModelStyle, legend, legend_height, model_styles
from caloforge.report.style import REFERENCE, REFERENCE_FILL, Drawing, figure_style, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["chosen_layers", "draw_distributions", "draw_mean_profiles"]

Floats = NDArray[np.float64]

SHARES = (0.1, 0.5, 0.9)
"""Layers are chosen where these shares of Geant4's mean energy are deposited in front of their end."""
RATIO_LIMIT = 0.5
MOST_ERROR = 0.3
"""Ratios are drawn where Geant4 is known to this relative error."""
TAIL = 0.001
"""Share of the entries left out at each end, of the sample that reaches farthest."""


def chosen_layers(evaluation: Evaluation) -> list[int]:
    """Numbers of up to three layers: where 10 %, half and 90 % of Geant4's energy are reached."""
    numbers = [h.layer for h in evaluation.histograms if h.group == "e_layer" and h.layer is not None]
    energy = evaluation.profiles["longitudinal"].reference
    reached = np.searchsorted(np.cumsum(energy) / max(float(energy.sum()), 1e-300), SHARES)
    return [numbers[i] for i in dict.fromkeys(np.clip(reached, 0, len(numbers) - 1).tolist())]


def draw_distributions(
    evaluations: Mapping[str, Evaluation], folder: Path
) -> tuple[list[Drawing], list[Drawing]]:
    """Pages of whole-shower distributions, and of chosen layers, one row a feature."""
    first = next(iter(evaluations.values()))
    named = [{h.name: h for h in e.histograms} for e in evaluations.values()]
    common = [h for h in first.histograms if all(h.name in names for names in named)]
    whole = [h for h in common if h.layer is None and h.group != "e_ratio_at_energy"]
    layers = chosen_layers(first)
    chosen = [h for h in common if h.layer in layers]
    panels = [[[names[h.name] for names in named] for h in part] for part in (whole, chosen)]
    styles = model_styles(list(evaluations))
    return (
        _pages("distributions", panels[0], styles, folder, columns=2, rows=2),
        _pages("distributions_layers", panels[1], styles, folder, columns=len(layers), rows=4, small=True),
    )


def _pages(
    name: str,
    panels: Sequence[Sequence[Histogram]],
    styles: Sequence[ModelStyle],
    folder: Path,
    *,
    columns: int,
    rows: int,
    small: bool = False,
) -> list[Drawing]:
    drawings = []
    size = rows * columns
    for page, start in enumerate(range(0, len(panels), size), start=1):
        part = panels[start : start + size]
        n_rows = -(-len(part) // columns)
        top, panel, bottom = legend_height(styles) + 0.1, 2.5 if small else 3.9, 0.55
        height = top + n_rows * panel + bottom
        with figure_style(small=small):
            figure = new_figure(10.4, height)
            grid = figure.add_gridspec(
                n_rows,
                columns,
                left=0.07,
                right=0.988,
                wspace=0.22,
                hspace=0.36 if small else 0.27,
                top=1 - top / height,
                bottom=bottom / height,
            )
            for k, histograms in enumerate(part):
                pair = grid[divmod(k, columns)].subgridspec(2, 1, height_ratios=(2.4, 1), hspace=0.06)
                axes = figure.add_subplot(pair[0])
                below = figure.add_subplot(pair[1], sharex=axes)
                _overlay(axes, below, histograms, styles)
                if small:
                    _few_ticks(axes, below)
                if k % columns == 0:
                    axes.set_ylabel("fraction per bin")
                    below.set_ylabel("ratio", loc="center")
            legend(figure, styles, 0.06)
            labels = "; ".join(dict.fromkeys(p[0].label for p in part))
            models = ", ".join(style.name for style in styles)
            drawings.append(
                save(
                    figure,
                    folder,
                    f"{name}_{page}" if len(panels) > size else name,
                    f"{labels}.",
                    f"Histograms of Geant4 and {models}, with ratios to Geant4: {labels}.",
                )
            )
    return drawings


def _overlay(axes: Axes, below: Axes, histograms: Sequence[Histogram], styles: Sequence[ModelStyle]) -> None:
    """Fractions per bin of all samples and, below, the models' ratios to Geant4."""
    head = histograms[0]
    edges, values, errors = _joined(histograms)
    reference, error = values[0], errors[0]
    axes.stairs(reference, edges, fill=True, color=REFERENCE_FILL)
    axes.stairs(reference, edges, color=REFERENCE, linewidth=0.9)
    for style, value in zip(styles, values[1:], strict=True):
        axes.stairs(value, edges, color=style.colour, linestyle=style.line, linewidth=1.1)
    top = float(values.max()) or 1.0
    if head.log_y and (values > 0).any():
        bottom = float(values[values > 0].min()) / 2
        axes.set_yscale("log")
        axes.set_ylim(bottom, top * (top / bottom) ** 0.08)
    else:
        axes.set_ylim(0, 1.12 * top)
    if head.log_x and edges[0] > 0:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(labelbottom=False)

    base = np.where(error < MOST_ERROR * reference, reference, np.nan)
    x = np.repeat(edges, 2)[1:-1]
    band = np.repeat(error / base, 2)
    below.fill_between(
        x, 1 - band, 1 + band, where=np.isfinite(band).tolist(), color=REFERENCE_FILL, linewidth=0
    )
    below.axhline(1, color=REFERENCE, linewidth=0.7)
    middle = np.sqrt(edges[1:] * edges[:-1]) if axes.get_xscale() == "log" else (edges[1:] + edges[:-1]) / 2
    for style, value, spread in zip(styles, values[1:], errors[1:], strict=True):
        ratio = value / base
        below.plot(x, np.repeat(ratio, 2), color=style.colour, linestyle=style.line, linewidth=1.0)
        below.vlines(middle, ratio - spread / base, ratio + spread / base, color=style.colour, linewidth=0.5)
    below.set_ylim(1 - RATIO_LIMIT, 1 + RATIO_LIMIT)
    below.set_yticks([1 - RATIO_LIMIT / 2, 1, 1 + RATIO_LIMIT / 2], ["0.75", "1", "1.25"])
    below.set_xlabel(head.label)


def _few_ticks(axes: Axes, below: Axes) -> None:
    """Some four labels an axis: ticks are most of the time that a page of many panels takes to draw."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.xaxis.set_visible(False)
    for axis, scale in ((axes.yaxis, axes.get_yscale()), (below.xaxis, below.get_xscale())):
        axis.set_major_locator(LogLocator(numticks=5) if scale == "log" else MaxNLocator(4))
        axis.set_minor_locator(NullLocator())


def _joined(
    histograms: Sequence[Histogram], least_entries: float = 20.0, least_bins: int = 16
) -> tuple[Floats, ...]:
    """Edges (B + 1,) and fractions and errors (1 + M, B), Geant4 first; all in the same, joined bins.

    Thin ends are cut off and neighbouring bins joined where the typical one holds few entries of Geant4.
    """
    head = histograms[0]
    counts = np.stack([head.reference, *(h.generated for h in histograms)])
    squared = np.stack([head.reference_error, *(h.generated_error for h in histograms)]) ** 2
    outside = np.array([sum(head.reference_outside), *(sum(h.generated_outside) for h in histograms)])
    first, last = _span(counts)
    ordered = np.sort(counts[0, first:last])
    typical = float(ordered[np.searchsorted(np.cumsum(ordered), 0.2 * ordered.sum())])
    factor = 1
    while typical * factor < least_entries and (last - first) // (factor * 2) >= least_bins:
        factor *= 2
    starts = np.arange(first, last, factor)
    edges = np.append(head.edges[starts], head.edges[last])
    total = counts.sum(axis=1) / np.maximum(1 - outside, 1e-12)
    scale = np.where(total > 0, 1 / np.where(total > 0, total, 1.0), 0.0)[:, None]
    values = np.add.reduceat(counts[:, :last], starts, axis=1) * scale
    errors = np.sqrt(np.add.reduceat(squared[:, :last], starts, axis=1)) * scale
    return edges, values, errors


def _span(counts: Floats) -> tuple[int, int]:
    """First bin and the one after the last that hold all but a `TAIL` of each sample at each end."""
    totals = counts.sum(axis=1, keepdims=True)
    reached = np.cumsum(counts, axis=1)[totals[:, 0] > 0] / totals[totals[:, 0] > 0]
    if not len(reached):
        return 0, counts.shape[1]
    first = int((reached > TAIL).argmax(axis=1).min())
    last = int((reached >= 1 - TAIL).argmax(axis=1).max()) + 1
    return first, last


def draw_mean_profiles(evaluations: Mapping[str, Evaluation], folder: Path) -> Drawing | None:
    """Mean energy against depth and radius, and means of features by layer, with ratios to Geant4."""
    per_model = [_profiles(e) for e in evaluations.values()]
    names = [n for n in per_model[0] if all(n in p for p in per_model)]
    if not names:
        return None
    styles = model_styles(list(evaluations))
    rows = -(-len(names) // 2)
    top = legend_height(styles) + 0.1
    height = top + 3.7 * rows + 0.6
    with figure_style():
        figure = new_figure(10.4, height)
        grid = figure.add_gridspec(
            rows,
            2,
            left=0.075,
            right=0.985,
            wspace=0.24,
            hspace=0.27,
            top=1 - top / height,
            bottom=0.6 / height,
        )
        for k, name in enumerate(names):
            pair = grid[divmod(k, 2)].subgridspec(2, 1, height_ratios=(2.2, 1), hspace=0.05)
            axes = figure.add_subplot(pair[0])
            below = figure.add_subplot(pair[1], sharex=axes)
            _profile(axes, below, [p[name] for p in per_model], styles)
        legend(figure, styles, 0.06)
        listed = ", ".join(per_model[0][n].label.partition(" [")[0] for n in names)
        return save(
            figure,
            folder,
            "profiles",
            f"Means with their standard errors: {listed}.",
            f"Profiles of Geant4 and {', '.join(evaluations)}, with ratios to Geant4: {listed}.",
        )


def _profiles(evaluation: Evaluation) -> dict[str, Profile]:
    """Profiles of the evaluation, and means by layer of sparsity and radial widths."""
    found = dict(evaluation.profiles)
    counts = np.sqrt([evaluation.counts["reference"], evaluation.counts["generated"]])
    for group, label in (("sparsity", "mean sparsity"), ("width_r", "mean width in r [mm]")):
        histograms = [h for h in evaluation.histograms if h.group == group and h.name in evaluation.features]
        if len(histograms) < 2:
            continue
        rows = [evaluation.features[h.name] for h in histograms]
        at = np.array([h.layer for h in histograms], dtype=np.float64)
        found[f"mean_{group}"] = Profile(
            name="longitudinal",
            label=label,
            position_label="layer",
            positions=at,
            edges=np.append(at - 0.5, at[-1] + 0.5),
            reference=np.array([c.reference_mean for c in rows]),
            generated=np.array([c.generated_mean for c in rows]),
            reference_error=np.array([c.reference_std for c in rows]) / counts[0],
            generated_error=np.array([c.generated_std for c in rows]) / counts[1],
        )
    return found


def _profile(axes: Axes, below: Axes, profiles: Sequence[Profile], styles: Sequence[ModelStyle]) -> None:
    head = profiles[0]
    edges, positions = head.edges, head.positions
    if head.name == "longitudinal":  # layers are equally wide, whatever their numbers
        positions = np.arange(len(positions), dtype=np.float64)
        edges = np.arange(len(positions) + 1, dtype=np.float64) - 0.5
    axes.stairs(head.reference, edges, fill=True, color=REFERENCE_FILL)
    axes.stairs(head.reference, edges, color=REFERENCE, linewidth=0.9)
    base = np.where(head.reference > 0, head.reference, np.nan)
    band = head.reference_error / base
    below.stairs(1 + band, edges, baseline=1 - band, fill=True, color=REFERENCE_FILL)
    below.axhline(1, color=REFERENCE, linewidth=0.8)
    reach = 0.02
    for style, profile in zip(styles, profiles, strict=True):
        axes.stairs(profile.generated, edges, color=style.colour, linestyle=style.line, linewidth=1.2)
        ratio, error = profile.generated / base, profile.generated_error / base
        below.errorbar(
            positions,
            ratio,
            yerr=error,
            color=style.colour,
            marker=style.marker,
            markersize=3,
            linestyle="none",
            elinewidth=0.8,
        )
        sure = np.isfinite(ratio) & (np.hypot(error, band) < 0.1)
        reach = max(reach, float(np.max(np.abs(ratio[sure] - 1) + error[sure], initial=0.0)))
    half = min(1.1 * reach, 1.0)
    below.set_ylim(1 - half, 1 + half)
    values = np.concatenate([head.reference, *(p.generated for p in profiles)])
    positive = values[values > 0]
    if len(positive) and positive.max() > 30 * positive.min():
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 2, positive.max() * 2)
    else:
        axes.set_ylim(0, 1.1 * float(values.max(initial=1e-300)))
    if positions[0] > 0 and positions[-1] > 100 * positions[0]:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel(head.label)
    axes.tick_params(labelbottom=False)
    below.set_ylabel("ratio", loc="center")
    below.set_xlabel(head.position_label)
    if head.name == "longitudinal":
        step = max(1, len(positions) // 10)
        below.set_xticks(positions[::step], [f"{number:g}" for number in head.positions[::step]])
        for part in (axes, below):
            part.tick_params(axis="x", which="minor", bottom=False, top=False)
