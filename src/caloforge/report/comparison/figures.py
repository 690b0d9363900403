"""Figures of a comparison's numbers: quality against speed, distances from chance, separations by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.comparison.ranking import badness, is_quality, quality_keys, sigmas_above_floor
from caloforge.evaluation.results import Evaluation, Histogram, ModelComparison
from caloforge.report.comparison.style import ModelStyle, legend, legend_height, model_styles
from caloforge.report.style import REFERENCE, REFERENCE_FILL, Drawing, figure_style, new_figure, save
from caloforge.report.words.columns import display_scale
from caloforge.report.words.text import group_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heat_map", "draw_plane", "draw_posterior", "draw_separations"]

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]

LEVELS = (3.0, 5.0, 10.0, 30.0, 100.0)
"""Edges of the heat map's colours, standard deviations above chance."""
SHADES = ("#ffffff", "#fff1cf", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000")
GREY = "#8a9099"


def draw_plane(comparison: ModelComparison, folder: Path) -> Drawing | None:
    """Quality against time per shower, with the Pareto front; None where fewer than two times are known.

    Measured models are filled, published results open and labelled.
    """
    keys = [k for k in quality_keys(comparison.columns) if any(k in m.metrics for m in comparison.models)]
    timed = [m for m in comparison.models if "ms" in m.metrics]
    if not keys or len(timed) + len(comparison.published) < 2 or not timed:
        return None
    styles = {s.name: s for s in model_styles([m.name for m in comparison.models])}
    columns = min(2, len(keys))
    rows = -(-len(keys) // columns)
    top = legend_height([*styles.values()]) + 0.1
    height = top + 4.0 * rows + 0.55
    with figure_style():
        figure = new_figure(5.2 * columns, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.15 / columns,
            right=0.98,
            wspace=0.24,
            hspace=0.24,
            top=1 - top / height,
            bottom=0.6 / height,
        )
        for k, key in enumerate(keys):
            axes = figure.add_subplot(grid[divmod(k, columns)])
            _plane(axes, comparison, key, styles)
        legend(figure, [styles[m.name] for m in timed], 0.15 / columns - 0.01, lines=False)
        caption = (
            "Quality against time per shower, better towards the lower left. The line is the Pareto front of "
            "the models measured here; the star is Geant4."
        )
        if comparison.published:
            caption += (
                " Open circles are published results for other showers, on a GPU at batches of 100 where "
                "published: not measured here and not comparable with quick classifiers."
            )
        names = ", ".join(m.name for m in timed)
        return save(
            figure, folder, "quality_speed", caption, f"Quality metrics against ms per shower of {names}."
        )


def _plane(axes: Axes, comparison: ModelComparison, key: str, styles: Mapping[str, ModelStyle]) -> None:
    scale = display_scale(key)
    column = comparison.column(key)
    others = []
    for result in comparison.published:
        time = result.time("gpu")
        if time is not None and key in result.metrics:
            others.append((result.model, time[0], scale * result.metrics[key]))
    for _, ms, y in others:
        axes.plot(ms, y, "o", markerfacecolor="none", markeredgecolor=GREY, markersize=5)
    known = {m.name: m for m in comparison.models if key in m.metrics and "ms" in m.metrics}
    for name, model in known.items():
        y, error = (scale * v for v in (model.metrics[key].value, model.metrics[key].error))
        style = styles[name]
        axes.errorbar(
            model.metrics["ms"].value,
            y,
            yerr=None if math.isnan(error) else error,
            color=style.colour,
            marker=style.marker,
            markersize=8,
            elinewidth=1.2,
            zorder=4,
        )
    front = [known[name] for name in comparison.pareto.get(key, ()) if name in known]
    if front:
        x = [m.metrics["ms"].value for m in front]
        y_front = [scale * (m.metrics[key].ideal + badness(m.metrics[key])) for m in front]
        axes.step(x, y_front, where="post", color=REFERENCE, linewidth=1.0, linestyle=(0, (4, 2)), zorder=3)
    geant4 = next((m.timing.geant4_ms for m in comparison.models if m.timing.geant4_ms is not None), None)
    if math.isfinite(column.floor.value):
        spread = column.floor.error if math.isfinite(column.floor.error) else 0.0
        axes.axhspan(
            scale * (column.floor.value - spread),
            scale * (column.floor.value + spread),
            color=REFERENCE_FILL,
            zorder=0,
        )
        if geant4 is not None:
            axes.plot(geant4, scale * column.floor.value, "*", color=REFERENCE, markersize=12, zorder=4)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 2.5)
    if key.startswith("auc_") or key == "worst_feature":
        axes.set_ylim(min(0.46, axes.get_ylim()[0]), axes.get_ylim()[1] + 0.02)
    elif axes.get_ylim()[0] >= 0 or min(scale * m.metrics[key].value for m in known.values()) > 0:
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom / 1.2, top * 1.4)
    axes.set_xlabel("ms per shower")
    axes.set_ylabel(column.label)
    measured = [(m.metrics["ms"].value, scale * m.metrics[key].value) for m in known.values()]
    _write_names(axes, others, measured)


def _write_names(
    axes: Axes, named: Sequence[tuple[str, float, float]], taken: Sequence[tuple[float, float]]
) -> None:
    """Names beside points, each on the first of four sides where it covers no point and no other name."""
    size, wide, tall = 6.5, 4.0, 8.0  # points; a letter's width and a line's height with its margin
    figure = axes.get_figure()
    assert figure is not None
    to_points = 72 / figure.dpi
    frame = [float(edge) * to_points for edge in axes.get_window_extent().extents]
    spots = axes.transData.transform([(x, y) for _, x, y in named] + list(taken)) * to_points
    boxes = [(x - 3, y - 3, x + 3, y + 3) for x, y in spots]
    for i, (name, x, y) in enumerate(named):
        length = wide * len(name)
        sides = [(dx, dy) for dy in (1.0, -tall - 1) for dx in (4.0, -length - 4)]
        placed = [
            (spots[i][0] + dx, spots[i][1] + dy, spots[i][0] + dx + length, spots[i][1] + dy + tall)
            for dx, dy in sides
        ]
        free = [k for k, box in enumerate(placed) if _is_free(box, frame, boxes[:i] + boxes[i + 1 :])]
        k = free[0] if free else 0
        boxes.append(placed[k])
        axes.annotate(
            name,
            (x, y),
            xytext=(sides[k][0], sides[k][1] + 1),
            textcoords="offset points",
            fontsize=size,
            color=GREY,
            va="bottom",
        )


def _is_free(box: Box, frame: Sequence[float], others: Sequence[Box]) -> bool:
    inside = box[0] > frame[0] and box[2] < frame[2] and box[1] > frame[1] and box[3] < frame[3]
    return inside and not any(
        box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others
    )


def draw_heat_map(comparison: ModelComparison, folder: Path) -> Drawing:
    """Every quality metric of every model in standard deviations above chance."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    columns = [c for c in comparison.columns if is_quality(c.key) and math.isfinite(c.floor.error)]
    table = np.array(
        [
            [
                sigmas_above_floor(c.key, m.metrics[c.key]) if c.key in m.metrics else math.nan
                for m in comparison.models
            ]
            for c in columns
        ]
    )
    known = np.isfinite(table).any(axis=1)
    columns, table = [c for c, k in zip(columns, known, strict=True) if k], table[known]
    names = [m.name for m in comparison.models]
    width = 3.6 + max(0.85 * len(names), 2.0)
    above = 0.35 + 0.045 * max(map(len, names))
    height = above + 0.27 * len(columns) + 0.75
    with figure_style(small=True):
        figure = new_figure(width, height)
        axes = figure.add_axes((2.6 / width, 0.75 / height, 1 - 2.75 / width, 1 - (0.75 + above) / height))
        norm = BoundaryNorm([-1e9, *LEVELS, 1e9], len(SHADES))
        drawn = axes.imshow(np.ma.masked_invalid(table), ListedColormap(SHADES), norm, aspect="auto")
        for (i, j), value in np.ndenumerate(table):
            text = "–" if math.isnan(value) else f"{value:z.1f}" if abs(value) < 9.95 else f"{value:.0f}"
            axes.text(
                j,
                i,
                text.replace("-", "−"),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if value > LEVELS[-2] else "black",
            )
        axes.set_xticks(range(len(names)), names, rotation=25, ha="left")
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(columns)), [_row_label(c.label, c.part) for c in columns])
        axes.tick_params(length=0, which="both")
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#d9dde3", linewidth=0.6)
        below = figure.add_axes((2.6 / width, 0.42 / height, 1 - 2.75 / width, 0.14 / height))
        bar = figure.colorbar(drawn, cax=below, orientation="horizontal", spacing="uniform")
        bar.set_ticks(list(LEVELS), labels=[f"{v:g}" for v in LEVELS])
        bar.set_label("standard deviations above chance")
        return save(
            figure,
            folder,
            "distance_from_chance",
            "How far each metric lies above what two samples of Geant4 of these sizes would give. White: not "
            "more than chance.",
            f"Heat map of {len(columns)} metrics of {', '.join(names)}.",
        )


def _row_label(label: str, part: str) -> str:
    return f"S, {label[:1].lower()}{label[1:]}" if part == "separation" else label


def draw_posterior(comparison: ModelComparison, folder: Path) -> Drawing | None:
    """The multi-class classifier's log-posterior of each class, and where it puts the showers of each."""
    result = comparison.multiclass
    if result is None:
        return None
    styles = {s.name: s for s in model_styles([m.name for m in comparison.models])}
    names = list(result.names)
    k = len(names)
    top = 0.25 + 0.045 * max(map(len, names))
    height = top + 0.6 + 0.4 * k
    with figure_style(small=True):
        figure = new_figure(10.4, height)
        grid = figure.add_gridspec(
            1, 2, left=0.14, right=0.98, wspace=0.5, top=1 - top / height, bottom=0.55 / height
        )
        axes = figure.add_subplot(grid[0])
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        own, error = float(result.log_posterior[0]), float(result.log_posterior_error[0])
        axes.axvspan(own - error, own + error, color=REFERENCE_FILL, linewidth=0)
        for i, name in enumerate(names):
            style = styles.get(name)
            axes.errorbar(
                result.log_posterior[i],
                i,
                xerr=result.log_posterior_error[i],
                color=style.colour if style else REFERENCE,
                marker=style.marker if style else "*",
                markersize=6,
            )
        axes.set_yticks(range(k), names)
        axes.set_ylim(k - 0.5, -0.5)
        axes.set_xlabel("log-posterior: mean of ln p(class | Geant4 shower) + ln K")
        matrix = figure.add_subplot(grid[1])
        matrix.imshow(result.confusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), share in np.ndenumerate(result.confusion):
            matrix.text(
                j,
                i,
                f"{100 * share:.0f} %",
                ha="center",
                va="center",
                color="white" if share > 0.6 else "black",
            )
        matrix.set_xticks(range(k), names, rotation=20, ha="left")
        matrix.xaxis.tick_top()
        matrix.set_yticks(range(k), names)
        matrix.tick_params(length=0)
        matrix.set_xlabel("showers of each row taken for …")
        return save(
            figure,
            folder,
            "log_posterior",
            "One network for all samples. Left: to which class it gives Geant4’s showers; the model farthest "
            "to the right is nearest to Geant4, one that reaches Geant4’s own band is not told from it, 0 is "
            "chance. Right: where the showers of each sample go; models that share showers resemble each "
            "other.",
            f"Log-posteriors and confusion matrix of {', '.join(names)}.",
        )


def draw_separations(evaluations: Mapping[str, Evaluation], folder: Path) -> Drawing | None:
    """Separation power of every layer for every model, one panel a feature, with what chance would give."""
    styles = model_styles(list(evaluations))
    per_model = [_by_group(e) for e in evaluations.values()]
    groups = [g for g, part in per_model[0].items() if len(part) > 1 and all(g in p for p in per_model)]
    if not groups:
        return None
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    top = legend_height(styles) + 0.3
    height = top + 2.2 * rows + 0.3
    with figure_style(small=True):
        figure = new_figure(3.45 * columns, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.2 / columns,
            right=0.99,
            wspace=0.24,
            hspace=0.42,
            top=1 - top / height,
            bottom=0.48 / height,
        )
        for k, group in enumerate(groups):
            axes = figure.add_subplot(grid[divmod(k, columns)])
            _separations(axes, [p[group] for p in per_model], styles)
            axes.set_title(group_title(group), pad=2.5, fontweight="bold")
            if k % columns == 0:
                axes.set_ylabel("separation power", loc="center")
            if k + columns >= len(groups):
                axes.set_xlabel("layer")
        legend(figure, styles, 0.04, lines=False)
        listed = ", ".join(map(group_title, groups))
        return save(
            figure,
            folder,
            "separation_by_layer",
            "Separation power by layer; the grey band is what two samples of one origin would give, ± 3σ.",
            f"Separation power against layer of {', '.join(evaluations)} for {listed}.",
        )


def _separations(axes: Axes, parts: Sequence[Sequence[Histogram]], styles: Sequence[ModelStyle]) -> None:
    at = np.arange(len(parts[0]))
    numbers = np.array(
        [[(h.separation.value, h.separation.floor, h.separation.floor_std) for h in p] for p in parts]
    )
    floor, spread = numbers[..., 1].mean(axis=0), numbers[..., 2].mean(axis=0)
    low, high = np.maximum(floor - 3 * spread, 0), floor + 3 * spread
    axes.fill_between(at, low, high, step="mid", color=REFERENCE_FILL, linewidth=0)
    axes.step(at, floor, where="mid", color=REFERENCE, linewidth=0.8)
    for style, values in zip(styles, numbers[..., 0], strict=True):
        axes.plot(at, values, style.marker, color=style.colour, markersize=2.8)
    joint = numbers[..., 0]
    if joint.max() > 20 * max(float(np.median(floor)), 1e-9) and (joint > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * max(float(joint.max()), float(high.max()), 1e-9))
    axes.set_xlim(-0.6, len(at) - 0.4)
    step = max(1, len(at) // 9)
    labels = [str(i if h.layer is None else h.layer) for i, h in enumerate(parts[0])]
    axes.set_xticks(at[::step], labels[::step])


def _by_group(evaluation: Evaluation) -> dict[str, list[Histogram]]:
    groups: dict[str, list[Histogram]] = {}
    for histogram in evaluation.histograms:
        groups.setdefault(histogram.group, []).append(histogram)
    return groups
