"""Single showers from the side, cell by cell: what a page without WebGL, and paper, can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caloforge.detector import Mesh
from caloforge.report.events import EventPair, energy_text
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME
from caloforge.report.geometry import cell_bounds, layer_cells

__all__ = ["draw_events"]


def draw_events(mesh: Mesh, pairs: Sequence[EventPair], folder: Path) -> list[Drawing]:
    """Both showers of each pair, a point a cell; nothing where all are empty."""
    from matplotlib.colors import LogNorm

    pairs = [pair for pair in pairs if any(len(event.cells) for event in pair.events)]
    if not pairs:
        return []
    bounds, known = cell_bounds(mesh)
    single = mesh.n_layers == 1
    a, b = bounds[:, 2:4].mean(axis=1), bounds[:, 4:6].mean(axis=1)
    x, y = (b * np.cos(a), b * np.sin(a)) if layer_cells(mesh)[0].polar else (b, a)
    across, along = (y, x) if single else (x, bounds[:, :2].mean(axis=1))
    energies = np.concatenate([event.energies for pair in pairs for event in pair.events])
    low, high = float(energies.min()), float(energies.max())
    norm = LogNorm(max(low, high * 1e-5), high if high > low else low * 10)
    with panel_sheet(
        2 * len(pairs), 2, panel=(5.25, 2.8), margins=(0.79, 0.16, 0.35, 1.4), gaps=(0.05, 0.24)
    ) as page:
        for row, pair in enumerate(pairs):
            first = None
            for column, (event, name) in enumerate(
                zip(pair.events, (REFERENCE_NAME, GENERATED_NAME), strict=True)
            ):
                axes = page.panel(2 * row + column, share=first)
                first = first or axes
                order = event.cells[::-1]  # the most energetic on top
                axes.scatter(
                    along[order],
                    across[order],
                    s=3 + 32 * np.clip(norm(event.energies[::-1]), 0, 1) ** 2,
                    c=event.energies[::-1],
                    norm=norm,
                    cmap="viridis",
                    linewidths=0,
                    rasterized=True,
                )
                axes.set_title(
                    f"{name}, {energy_text(event.incident)}: "
                    f"ΣE = {energy_text(event.total)} in {event.hits} cells"
                )
                if not single:
                    axes.set_xlim(bounds[:, 0].min(), bounds[:, 1].max())
                axes.tick_params(labelleft=column == 0, labelbottom=row == len(pairs) - 1)
                if column == 0:
                    axes.set_ylabel("y (mm)" if single else "x (mm)")
                if row == len(pairs) - 1:
                    axes.set_xlabel("x (mm)" if single else "depth z (mm)" if known else "layer")
        page.colour_bar(page.axes(3.15, 0.52, 4.41, 0.12), norm, "viridis", "cell energy (MeV)")
        return [
            page.save(
                folder,
                "event_display",
                "Single showers from the side, a point a cell.",
                "Single showers of Geant4 and generated ones at nearly the same energies, seen from the "
                "side.",
            )
        ]
