"""Pairs of showers at nearly the same conditions, one of Geant4 and one generated, to be looked at.

Legend: ``C`` cells shown, ``V`` voxels. Lengths mm, energies MeV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers, pdg_name
from caloforge.detector import Mesh
from caloforge.report.geometry import cell_bounds, layer_cells
from caloforge.report.style import GENERATED_NAME, REFERENCE_NAME, Drawing, figure_style, new_figure, save

__all__ = ["CELLS_SHOWN", "Event", "EventPair", "choose_pairs", "draw_events"]

Floats = NDArray[np.float64]
CELLS_SHOWN = 3500
QUANTILES = (0.5, 0.1, 0.95)


@dataclass(frozen=True)
class Event:
    """One shower: its number in the sample, incident energy, total, and its most energetic cells.

    Attributes:
        number: position in the sample.
        incident: incident energy, MeV.
        total: sum of all cells, MeV.
        hits: cells above zero.
        cells: flat voxels shown, (C,), most energetic first.
        energies: their energies, MeV, (C,).
    """

    number: int
    incident: float
    total: float
    hits: int
    cells: NDArray[np.int64]
    energies: Floats

    @property
    def dropped(self) -> int:
        return self.hits - len(self.cells)

    @property
    def dropped_share(self) -> float:
        """Fraction of the energy that is in the cells not shown."""
        return 1 - float(self.energies.sum()) / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class EventPair:
    """A shower of Geant4 and the generated one whose conditions are nearest to its."""

    reference: Event
    generated: Event
    title: str


def choose_pairs(
    reference: Showers, generated: Showers, display_energy: float | None = None
) -> list[EventPair]:
    """Up to three pairs: first the one nearest to ``display_energy`` (MeV; by default the median), then
    a low and a high energy.

    Nothing but the conditions decides which showers are shown.
    """
    energy = reference.conditions.energy
    wanted = list(np.quantile(energy, QUANTILES))
    if display_energy is not None:
        wanted[0] = display_energy
    pairs: list[EventPair] = []
    for target in wanted:
        i = int(np.argmin(np.abs(np.log(energy / target))))
        if any(pair.reference.number == i for pair in pairs):
            continue
        j = _nearest(reference.conditions[i : i + 1], generated.conditions)
        first, second = _event(reference, i), _event(generated, j)
        title = f"{_energy_text(first.incident)} {_particle(reference.conditions, i)}".strip()
        pairs.append(EventPair(first, second, title))
    return pairs


def _nearest(one: Conditions, many: Conditions) -> int:
    """The shower whose particle, detector, energy and direction are nearest."""
    distance = np.abs(np.log(many.energy / one.energy))
    distance += np.abs(many.theta - one.theta) + np.abs(np.sin((many.phi - one.phi) / 2))
    distance += 100.0 * (many.particle != one.particle) + 100.0 * (many.detector != one.detector)
    return int(np.argmin(distance))


def _event(showers: Showers, i: int) -> Event:
    cells = showers.read(i, i + 1).reshape(-1).astype(np.float64)
    hits = int((cells > 0).sum())
    order = np.argsort(-cells, kind="stable")[: min(hits, CELLS_SHOWN)]
    return Event(i, float(showers.conditions.energy[i]), float(cells.sum()), hits, order, cells[order])


def _particle(conditions: Conditions, i: int) -> str:
    code = int(conditions.particle[i])
    return "" if code == 0 else pdg_name(code)


def _energy_text(energy: float) -> str:
    return f"{energy / 1000:.3g} GeV" if energy >= 1000 else f"{energy:.3g} MeV"


def draw_events(mesh: Mesh, pairs: Sequence[EventPair], folder: Path) -> Drawing | None:
    """Each pair from the side, cell by cell: what a page without WebGL, and paper, can show."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    pairs = [pair for pair in pairs if len(pair.reference.cells) or len(pair.generated.cells)]
    if not pairs:
        return None
    bounds, known = cell_bounds(mesh)
    polar = layer_cells(mesh)[0].polar
    single = mesh.n_layers == 1
    a, b = (bounds[:, 2:4].mean(axis=1), bounds[:, 4:6].mean(axis=1))
    x, y = (b * np.cos(a), b * np.sin(a)) if polar else (b, a)
    across, along = (y, x) if single else (x, bounds[:, :2].mean(axis=1))
    energies = np.concatenate(
        [e for pair in pairs for e in (pair.reference.energies, pair.generated.energies)]
    )
    norm = LogNorm(*_limits(energies))
    with figure_style():
        height = 0.35 + 2.9 * len(pairs) + 1.2
        figure = new_figure(10.5, height)
        grid = figure.add_gridspec(
            len(pairs),
            2,
            left=0.075,
            right=0.985,
            wspace=0.05,
            hspace=0.24,
            top=1 - 0.35 / height,
            bottom=1.4 / height,
        )
        for row, pair in enumerate(pairs):
            shared = None
            for column, (event, name) in enumerate(
                ((pair.reference, REFERENCE_NAME), (pair.generated, GENERATED_NAME))
            ):
                axes = figure.add_subplot(grid[row, column], sharex=shared, sharey=shared)
                shared = shared or axes
                order = event.cells[::-1]
                size = 3 + 32 * np.clip(norm(event.energies[::-1]), 0, 1) ** 2
                axes.scatter(
                    along[order],
                    across[order],
                    s=size,
                    c=event.energies[::-1],
                    norm=norm,
                    cmap="viridis",
                    linewidths=0,
                    rasterized=True,
                )
                axes.set_title(
                    f"{name}, {_energy_text(event.incident)}: "
                    f"ΣE = {_energy_text(event.total)} in {event.hits} cells"
                )
                if not single:
                    axes.set_xlim(bounds[:, 0].min(), bounds[:, 1].max())
                axes.tick_params(labelleft=column == 0, labelbottom=row == len(pairs) - 1)
                if column == 0:
                    axes.set_ylabel("y (mm)" if single else "x (mm)")
                if row == len(pairs) - 1:
                    axes.set_xlabel("x (mm)" if single else "depth z (mm)" if known else "layer")
        bar = figure.colorbar(
            ScalarMappable(norm, "viridis"),
            cax=figure.add_axes((0.3, 0.52 / height, 0.42, 0.12 / height)),
            orientation="horizontal",
        )
        bar.set_label("cell energy (MeV)", loc="center")
        bar.ax.tick_params(direction="out", top=False, which="both")
        return save(
            figure,
            folder,
            "event_display",
            "Single showers seen from the side, a point a cell; each generated one is the nearest in energy.",
            "Single showers of Geant4 and generated ones at nearly the same energies, seen from the side.",
        )


def _limits(energies: Floats) -> tuple[float, float]:
    low, high = float(energies.min()), float(energies.max())
    return max(low, high * 1e-5), high if high > low else low * 10
