"""What is drawn in many figures: filled histograms, bands, points, scales and their limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.report.figures.style import (
    GENERATED,
    GENERATED_NAME,
    REFERENCE,
    REFERENCE_FILL,
    REFERENCE_NAME,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from caloforge.evaluation.results import Histogram

__all__ = [
    "Floats",
    "band",
    "both_points",
    "by_group",
    "few_ticks",
    "filled_stairs",
    "layer_ticks",
    "points",
    "ratio_limits",
    "scale_end",
    "spans_decades",
]

Floats = NDArray[np.float64]


def by_group(histograms: Iterable[Histogram]) -> dict[str, list[Histogram]]:
    """Histograms by the group that they belong to: the layers of one feature."""
    groups: dict[str, list[Histogram]] = {}
    for histogram in histograms:
        groups.setdefault(histogram.group, []).append(histogram)
    return groups


def filled_stairs(axes: Axes, values: Floats, edges: Floats, label: str = REFERENCE_NAME) -> None:
    """A histogram of Geant4: a grey area with its outline."""
    axes.stairs(values, edges, fill=True, color=REFERENCE_FILL, label=label)
    axes.stairs(values, edges, color=REFERENCE, linewidth=0.9)


def band(axes: Axes, edges: Floats, low: Floats, high: Floats, **style: Any) -> None:
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


def points(
    axes: Axes,
    x: Floats | float,
    y: Floats | float,
    error: Floats | float,
    colour: str,
    marker: str,
    label: str | None = None,
    *,
    size: float = 4,
    width: float = 1,
    **style: Any,
) -> None:
    """Points with error bars, ``width`` points wide; ``style`` is what `Axes.errorbar` takes besides."""
    look: dict[str, Any] = {"linestyle": "none", "markersize": size, "elinewidth": width} | style
    axes.errorbar(x, y, yerr=error, color=colour, marker=marker, label=label, **look)


def both_points(
    axes: Axes,
    reference: tuple[Floats, Floats, Floats],
    generated: tuple[Floats, Floats, Floats],
    **style: Any,
) -> None:
    """Points of Geant4 and of a generator: x, y and error of each."""
    points(axes, *reference, REFERENCE, "o", REFERENCE_NAME, **style)
    points(axes, *generated, GENERATED, "s", GENERATED_NAME, **style)


def scale_end(values: Floats, parts: int, most: float) -> float:
    """End of a symmetric scale: the largest value of either sign, rounded up to one of so many parts of 1."""
    largest = float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0))
    return float(np.clip(np.ceil(parts * largest) / parts, 1 / parts, most))


def ratio_limits(axes: Axes, ratios: Sequence[tuple[Floats, Floats]]) -> None:
    """Symmetric limits about 1 that hold every (ratio, error) that is known to better than 20 %."""
    reach = 0.0
    for ratio, error in ratios:
        sure = np.isfinite(ratio) & (error < 0.2)
        reach = max(reach, float(np.max(np.abs(ratio[sure] - 1) + error[sure], initial=0.0)))
    half = float(np.clip(1.15 * reach, 0.02, 1.0))
    axes.set_ylim(1 - half, 1 + half)


def spans_decades(edges: Floats) -> bool:
    """True where an axis over these edges should be logarithmic."""
    return bool(edges[0] > 0 and edges[-1] > 100 * edges[0])


def few_ticks(axes: Axes, below: Axes) -> None:
    """Three or so labels an axis: ticks are most of the time that a page of many panels takes to draw."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.xaxis.set_visible(False)
    for axis, scale in ((axes.yaxis, axes.get_yscale()), (below.xaxis, below.get_xscale())):
        axis.set_major_locator(LogLocator(numticks=5) if scale == "log" else MaxNLocator(4))
        axis.set_minor_locator(NullLocator())


def layer_ticks(axes: Axes, part: Sequence[Histogram]) -> None:
    """The numbers of the layers below their places, some nine of them."""
    at = np.arange(len(part))
    step = max(1, len(part) // 9)
    labels = [str(i if h.layer is None else h.layer) for i, h in enumerate(part)]
    axes.set_xlim(-0.6, len(part) - 0.4)
    axes.set_xticks(at[::step], labels[::step])
