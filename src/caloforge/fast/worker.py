"""A Geant4 worker whose electrons, positrons and photons a model takes over at the face of the calorimeter.

A `caloforge.runtime.processes.Child` of `caloforge.geant4.pool`, like `caloforge.geant4.worker`. Events in
which something was taken over wait until there are enough showers to make, or the chunk ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.fast.client import ShowerClient
from caloforge.fast.placing import deposits, shower_number
from caloforge.geant4.acceptance import REASONS, Acceptance, Incident
from caloforge.geant4.worker import Simulation, work
from caloforge.runtime.processes import Channel, serve_and_leave

if TYPE_CHECKING:
    from caloforge.geant4.engine import Event

__all__ = ["FastSimulation"]


class FastSimulation(Simulation):
    """Geant4 and a model."""

    def __init__(self, settings: dict[str, Any], channel: Channel) -> None:
        self.client = ShowerClient(settings["server"])
        acceptance = Acceptance.from_dict(settings["fast"]["acceptance"])
        self.tells_impact = acceptance.impact is not None
        super().__init__(settings, channel, acceptance)
        self.together: int = settings["fast"]["together"]
        self.cells = self.client.offer.mesh(self.detector.name)

    def begin(self, n: int) -> None:
        self.waiting: list[tuple[int, Event, float]] = []
        self.n_waiting = 0
        names = ["fast_showers", *(f"fallback_{reason}" for reason in REASONS)]
        self.columns |= {name: np.zeros(n, dtype=np.int32) for name in names}
        self.columns["fast_energy"] = np.zeros(n, dtype=np.float32)

    def take(self, i: int, event: Event, phi: float) -> None:
        for reason, count in event.refused.items():
            self.columns[f"fallback_{reason}"][i] = count
        if not event.taken:
            super().take(i, event, phi)
            return
        self.columns["fast_showers"][i] = len(event.taken)
        self.columns["fast_energy"][i] = sum(incident.energy for incident in event.taken)
        self.waiting.append((i, event, phi))
        self.n_waiting += len(event.taken)
        if self.n_waiting >= self.together:
            self.end()

    def end(self) -> None:
        """Make the showers of all events that wait, and score them with their deposits."""
        if not self.waiting:
            return
        wanted = [(event.number, incident) for _, event, _ in self.waiting for incident in event.taken]
        numbers = np.array([shower_number(event, incident.track) for event, incident in wanted])
        incidents = [incident for _, incident in wanted]
        conditions = Incident.conditions(incidents, self.detector.name, self.tells_impact)
        made = iter(zip(numbers, self.client.make(self.seed, numbers, conditions), strict=True))
        for i, event, phi in self.waiting:
            parts = [(event.energies, event.positions)]
            for incident in event.taken:
                number, energies = next(made)
                parts.append(deposits(energies, incident, self.cells, self.detector, self.seed, int(number)))
            energies, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
            super().take(i, replace(event, energies=energies, positions=positions), phi)
        self.waiting, self.n_waiting = [], 0


if __name__ == "__main__":
    serve_and_leave(lambda channel: work(channel, FastSimulation))
