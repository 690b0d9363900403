"""Quality against time per shower of several models, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caloforge.evaluation.comparison.ranking import badness, quality_keys
from caloforge.evaluation.results import ModelComparison
from caloforge.report.figures.marks import points
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import REFERENCE, REFERENCE_FILL, SampleStyle, model_styles
from caloforge.report.words.rows import display_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GREY", "draw_plane"]

Box = tuple[float, float, float, float]

GREY = "#8a9099"


def draw_plane(comparison: ModelComparison, folder: Path) -> list[Drawing]:
    """Quality against time per shower, with the Pareto front; nothing where fewer than two times are known.

    Measured models are filled, published results open and labelled.
    """
    keys = [k for k in quality_keys(comparison.columns) if any(k in m.metrics for m in comparison.models)]
    timed = [m for m in comparison.models if "ms" in m.metrics]
    if not keys or len(timed) + len(comparison.published) < 2 or not timed:
        return []
    styles = {s.name: s for s in model_styles([m.name for m in comparison.models])}
    with panel_sheet(
        len(keys),
        min(2, len(keys)),
        panel=(5.2, 4.0),
        margins=(0.78, 0.2, 0.1, 0.6),
        gaps=(0.24, 0.24),
        models=[styles[m.name] for m in timed],
        lines=False,
    ) as page:
        for k, key in enumerate(keys):
            _draw_plane(page.panel(k), comparison, key, styles)
        caption = (
            "Better towards the lower left. Line: Pareto front of the models measured here; star: Geant4."
        )
        if comparison.published:
            caption += (
                " Open circles: published for other showers, on a GPU; not comparable with quick classifiers."
            )
        names = ", ".join(m.name for m in timed)
        alt = f"Quality metrics against ms per shower of {names}."
        return [page.save(folder, "quality_speed", caption, alt)]


def _draw_plane(axes: Axes, comparison: ModelComparison, key: str, styles: Mapping[str, SampleStyle]) -> None:
    scale = display_scale(key)
    column = comparison.column(key)
    published = [
        (result.model, time[0], scale * result.metrics[key])
        for result in comparison.published
        if (time := result.time("gpu")) is not None and key in result.metrics
    ]
    for _, ms, value in published:
        axes.plot(ms, value, "o", markerfacecolor="none", markeredgecolor=GREY, markersize=5)
    known = {m.name: m.metrics for m in comparison.models if key in m.metrics and "ms" in m.metrics}
    measured = {name: (m["ms"].value, scale * m[key].value) for name, m in known.items()}
    for name, (ms, value) in measured.items():
        error = scale * known[name][key].error
        style = styles[name]
        points(axes, ms, value, error, style.colour, style.marker, size=8, width=1.2, zorder=4)
    front = [known[name] for name in comparison.pareto.get(key, ()) if name in known]
    if front:
        x = [m["ms"].value for m in front]
        y = [scale * (m[key].ideal + badness(m[key])) for m in front]
        axes.step(x, y, where="post", color=REFERENCE, linewidth=1.0, linestyle=(0, (4, 2)), zorder=3)
    geant4 = next((m.timing.geant4_ms for m in comparison.models if m.timing.geant4_ms is not None), None)
    floor = column.floor
    if math.isfinite(floor.value):
        spread = floor.error if math.isfinite(floor.error) else 0.0
        low, high = scale * (floor.value - spread), scale * (floor.value + spread)
        axes.axhspan(low, high, color=REFERENCE_FILL, zorder=0)
        if geant4 is not None:
            axes.plot(geant4, scale * floor.value, "*", color=REFERENCE, markersize=12, zorder=4)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 2.5)
    low, high = axes.get_ylim()
    if key.startswith("auc_") or key == "worst_feature":
        axes.set_ylim(min(0.46, low), high + 0.02)
    elif low >= 0 or min(value for _, value in measured.values()) > 0:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.2, high * 1.4)
    axes.set_xlabel("ms per shower")
    axes.set_ylabel(column.label)
    _write_names(axes, published, list(measured.values()))


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
