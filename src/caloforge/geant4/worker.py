"""A worker process: runs chunks of showers with Geant4 and stores each in a file of its own.

A `caloforge.runtime.processes.Child` of `caloforge.geant4.pool`. A message comes in with the settings, then
one per chunk; one goes out per event and per finished chunk. When there are no more the worker stops.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.beam import Beam
from caloforge.data.event_list import EventList
from caloforge.data.packing import PackedEnergies
from caloforge.data.sources import check_energies
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.runtime.chunks import Chunk
from caloforge.runtime.processes import Channel, serve_and_leave

if TYPE_CHECKING:
    from caloforge.geant4.acceptance import Acceptance
    from caloforge.geant4.engine import Event

__all__ = ["Simulation", "finish", "score", "work"]


def finish(energies: NDArray[np.float64], detector: Detector) -> NDArray[np.float32]:
    """Deposits per voxel (V,) as stored: divided by the sampling fraction, then cut at the threshold."""
    scaled = energies / detector.sampling_fraction
    scaled[scaled < detector.threshold_mev / detector.sampling_fraction] = 0.0
    return scaled.astype(np.float32)


def score(event: Event, detector: Detector, mesh: Mesh, phi: float) -> NDArray[np.float64]:
    """Deposits of an event on the mesh, (V,) MeV; ``phi`` is the azimuth that was asked for."""
    from caloforge.geant4.engine import to_shower_frame

    positions = event.positions
    if mesh.frame == "shower":
        roll = 0.0
        if detector.shape == "box":  # the azimuth of the direction has no meaning near normal incidence
            roll = float(np.arctan2(event.direction[1], event.direction[0])) - phi
        positions = to_shower_frame(positions, event.entrance, event.direction, roll)
    return mesh.score(positions, event.energies)


class Simulation:
    """One engine and what it makes.

    Args:
        settings: of the request, and what else the worker is told.
        channel: to the parent.
        acceptance: which particles a model takes over; None for none.
    """

    def __init__(
        self, settings: dict[str, Any], channel: Channel, acceptance: Acceptance | None = None
    ) -> None:
        from caloforge.geant4.engine import Engine

        self.detector = Detector.from_dict(settings["detector"])
        self.mesh: Mesh = mesh_from_dict(settings["mesh"])
        self.source: Beam | EventList = (
            EventList.from_dict(settings["events"])
            if "events" in settings
            else Beam.from_dict(settings["beam"])
        )
        self.seed: int = settings["seed"]
        self.first: int = settings.get("first", 0)
        self.channel = channel
        self.engine = Engine(self.detector, official=settings["official"], acceptance=acceptance)

    def run(self, start: int, stop: int) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Showers start..stop − 1: energies (n, V), and columns (n,), the CPU ``seconds`` among them.

        They are counted from the first one of the file, which need not have the number 0.
        """
        numbers = np.arange(start, stop, dtype=np.int64) + self.first
        conditions, sizes = self.source.particles(self.detector.name, self.seed, numbers)
        first = np.cumsum(sizes) - sizes
        self.energies = np.zeros((len(numbers), self.mesh.n_voxels), dtype=np.float32)
        self.columns: dict[str, NDArray[Any]] = {"seconds": np.zeros(len(numbers), dtype=np.float32)}

        def done(event: Event) -> None:
            i = event.number - int(numbers[0])
            self.columns["seconds"][i] = event.cpu_seconds
            self.take(i, event, float(conditions.phi[first[i]]))
            self.channel.send({"shower": event.number})

        self.begin(len(numbers))
        self.engine.run(conditions, numbers, self.seed, done, sizes)
        self.end()
        check_energies(self.energies, "Geant4", start)
        return self.energies, self.columns

    def begin(self, n: int) -> None:
        """Called before ``n`` events."""

    def take(self, i: int, event: Event, phi: float) -> None:
        """Take the event at place ``i``; ``phi`` is the azimuth of its first particle."""
        self.energies[i] = finish(score(event, self.detector, self.mesh, phi), self.detector)

    def end(self) -> None:
        """Called when all events are made."""


def work(channel: Channel, simulation: Callable[[dict[str, Any], Channel], Simulation] = Simulation) -> None:
    """Make chunks until there are no more orders."""
    orders = iter(channel)
    made_by = simulation(next(orders), channel)
    channel.send({"ready": True})
    for order in orders:
        start, stop = order["start"], order["stop"]
        energies, columns = made_by.run(start, stop)
        packed = PackedEnergies.pack(energies, start)
        Chunk(start, stop, Path(order["path"])).write({**columns, **packed.columns()})
        channel.send({"chunk": start})


if __name__ == "__main__":
    serve_and_leave(work)
