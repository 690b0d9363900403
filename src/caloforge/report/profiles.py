"""Profiles of the mean shower, and separation powers by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import Histogram, Profile
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

__all__ = ["draw_profiles", "draw_separation", "points", "ratio_limits"]

Floats = NDArray[np.float64]


def points(
    axes: Axes, x: Floats, y: Floats, error: Floats, colour: str, marker: str, label: str | None = None
) -> None:
    """Points with error bars."""
    axes.errorbar(
        x,
        y,
        yerr=error,
        color=colour,
        marker=marker,
        markersize=4,
        linestyle="none",
        elinewidth=1,
        label=label,
    )


def ratio_limits(axes: Axes, ratio: Floats, error: Floats) -> None:
    """Symmetric limits about 1 that hold every ratio that is known to better than 20 %."""
    sure = np.isfinite(ratio) & (error < 0.2)
    reach = float(np.max(np.abs(ratio[sure] - 1) + error[sure], initial=0.0))
    half = float(np.clip(1.15 * reach, 0.02, 1.0))
    axes.set_ylim(1 - half, 1 + half)


def draw_profiles(profiles: Mapping[str, Profile], folder: Path) -> Drawing | None:
    """Mean energy against depth and radius, with ratio panels; None where there is no profile."""
    if not profiles:
        return None
    columns = min(2, len(profiles))
    rows = -(-len(profiles) // columns)
    height = 0.2 + 4.6 * rows
    with figure_style():
        figure = new_figure(5.3 * columns + 0.1, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.145 / columns + 0.005,
            right=0.985,
            wspace=0.27,
            hspace=0.28,
            top=1 - 0.2 / height,
            bottom=0.62 / height,
        )
        for k, profile in enumerate(profiles.values()):
            pair = grid[divmod(k, columns)].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
            axes = figure.add_subplot(pair[0])
            below = figure.add_subplot(pair[1], sharex=axes)
            _draw_profile(axes, below, profile)
        names = ", ".join(name.replace("_", " ") for name in profiles)
        return save(
            figure,
            folder,
            "profiles",
            f"Profiles with the standard errors of the means: {names}.",
            f"Mean profiles, {names}: Geant4 and generated with their ratio.",
        )


def _draw_profile(axes: Axes, below: Axes, profile: Profile) -> None:
    edges: Floats = profile.edges
    positions: Floats = profile.positions
    if profile.name == "longitudinal":  # layers are equally wide, whatever their numbers
        positions = np.arange(len(positions), dtype=np.float64)
        edges = np.arange(len(positions) + 1, dtype=np.float64) - 0.5
    axes.stairs(profile.reference, edges, fill=True, color=REFERENCE_FILL, label=REFERENCE_NAME)
    axes.stairs(profile.reference, edges, color=REFERENCE, linewidth=0.9)
    axes.stairs(profile.generated, edges, color=GENERATED, linewidth=1.2, label=GENERATED_NAME)
    points(axes, positions, profile.reference, profile.reference_error, REFERENCE, "")
    points(axes, positions, profile.generated, profile.generated_error, GENERATED, "")
    joint = np.concatenate([profile.reference, profile.generated])
    if (joint > 0).any():
        low, high = joint[joint > 0].min(), joint.max()
        if high > 30 * low:
            axes.set_yscale("log")
            axes.set_ylim(low / 2, high * (high / low) ** 0.3)
        else:
            axes.set_ylim(0, 1.35 * high)
    if edges[0] > 0 and edges[-1] > 100 * edges[0]:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel(profile.label)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper right")

    base = np.where(profile.reference > 0, profile.reference, np.nan)
    ratio = profile.generated / base
    error = profile.generated_error / base
    band = profile.reference_error / base
    below.stairs(1 + band, edges, baseline=1 - band, fill=True, color=REFERENCE_FILL)
    below.axhline(1, color=REFERENCE, linewidth=0.8)
    points(below, positions, ratio, error, GENERATED, "o")
    ratio_limits(below, ratio, np.hypot(error, band))
    below.set_ylabel("ratio", loc="center")
    below.set_xlabel(profile.position_label)
    if profile.name == "longitudinal":
        step = max(1, len(positions) // 10)
        labels = [f"{number:g}" for number in profile.positions]
        below.set_xticks(positions[::step], labels[::step])
        below.tick_params(axis="x", which="minor", bottom=False, top=False)
        axes.tick_params(axis="x", which="minor", bottom=False, top=False)


def draw_separation(
    groups: Mapping[str, Sequence[Histogram]], titles: Mapping[str, str], folder: Path
) -> Drawing | None:
    """Separation power of every layer, one panel a feature, with what chance alone would give."""
    groups = {name: part for name, part in groups.items() if len(part) > 1}
    if not groups:
        return None
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    height = 0.25 + 2.0 * rows + 0.45
    with figure_style(small=True):
        figure = new_figure(3.4 * columns + 0.3, height)
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.23 / columns,
            right=0.99,
            wspace=0.24,
            hspace=0.42,
            top=1 - 0.3 / height,
            bottom=0.5 / height,
        )
        for k, (name, part) in enumerate(groups.items()):
            axes = figure.add_subplot(grid[divmod(k, columns)])
            at = np.arange(len(part))
            value, floor, spread = np.array(
                [(h.separation.value, h.separation.floor, h.separation.floor_std) for h in part]
            ).T
            axes.fill_between(
                at,
                np.maximum(floor - 3 * spread, 0),
                floor + 3 * spread,
                step="mid",
                color=REFERENCE_FILL,
                linewidth=0,
                label="by chance ± 3σ",
            )
            axes.step(at, floor, where="mid", color=REFERENCE, linewidth=0.8)
            axes.plot(at, value, "o", color=GENERATED, markersize=2.6, label="separation power")
            axes.set_ylim(0, 1.3 * max(float(value.max()), float((floor + 3 * spread).max()), 1e-9))
            axes.set_xlim(-0.6, len(part) - 0.4)
            axes.set_title(titles.get(name, name), pad=2.5, fontweight="bold")
            step = max(1, len(part) // 9)
            labels = [str(i if h.layer is None else h.layer) for i, h in enumerate(part)]
            axes.set_xticks(at[::step], labels[::step])
            if k % columns == 0:
                axes.set_ylabel("separation power", loc="center")
            if k + columns >= len(groups):
                axes.set_xlabel("layer")
            if k == 0:
                axes.legend(loc="upper right")
        return save(
            figure,
            folder,
            "separation_by_layer",
            "Separation power by layer; the grey band is what two samples of the same origin would give.",
            f"Separation power against layer for {', '.join(titles.get(g, g) for g in groups)}.",
        )
