"""Pairs of showers at nearly the same conditions, one of Geant4 and one generated, to be looked at.

Legend: ``C`` cells shown, ``V`` voxels. Lengths mm, energies MeV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers, pdg_name
from caloforge.detector import Mesh
from caloforge.report.geometry import cell_bounds, layer_cells
from caloforge.report.script_data import colour_table, pack

__all__ = ["CELLS_SHOWN", "Event", "EventPair", "choose_pairs", "energy_text", "events_payload"]

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

    @property
    def events(self) -> tuple[Event, Event]:
        return self.reference, self.generated


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
        code = int(reference.conditions.particle[i])
        particle = "" if code == 0 else pdg_name(code)
        pairs.append(EventPair(first, second, f"{energy_text(first.incident)} {particle}".strip()))
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


def energy_text(energy: float) -> str:
    """An energy given in MeV, in MeV or GeV."""
    return f"{energy / 1000:.3g} GeV" if energy >= 1000 else f"{energy:.3g} MeV"


def events_payload(mesh: Mesh, pairs: Sequence[EventPair]) -> dict[str, Any]:
    """Cells of the showers for the display in three dimensions."""
    bounds, known = cell_bounds(mesh)
    energies = [e.energies for pair in pairs for e in pair.events if len(e.energies)]
    joint = np.concatenate(energies) if energies else np.array([1.0])
    return {
        "polar": layer_cells(mesh)[0].polar,
        "single": mesh.n_layers == 1,
        "depthKnown": known,
        "numbers": list(mesh.layer_numbers),
        "range": [float(joint.min()), float(joint.max())],
        "colours": colour_table("plasma", 0.12, 1.0, 24),
        "pairs": [
            {
                "title": pair.title,
                "events": [
                    {
                        "number": event.number,
                        "incident": event.incident,
                        "total": event.total,
                        "hits": event.hits,
                        "dropped": event.dropped,
                        "droppedShare": event.dropped_share,
                        "bounds": pack(bounds[event.cells]),
                        "energies": pack(event.energies),
                    }
                    for event in pair.events
                ],
            }
            for pair in pairs
        ],
    }
