"""A worker process: runs chunks of showers with Geant4 and stores each in a file of its own.

A `caloforge.runtime.processes.Child` of `caloforge.geant4.pool`. A message comes in with the settings, then
one per chunk; one goes out per event and per finished chunk. When there are no more the worker stops.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.beam import Beam
from caloforge.data.packing import PackedEnergies
from caloforge.data.sources import check_energies
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.runtime.chunks import Chunk
from caloforge.runtime.processes import Channel, serve_and_leave

if TYPE_CHECKING:
    from caloforge.geant4.engine import Event

__all__ = ["finish", "score", "work"]


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


class _Simulation:
    """One engine and what it makes."""

    def __init__(self, settings: dict[str, Any], channel: Channel) -> None:
        from caloforge.geant4.engine import Engine

        self.detector = Detector.from_dict(settings["detector"])
        self.mesh: Mesh = mesh_from_dict(settings["mesh"])
        self.beam = Beam.from_dict(settings["beam"])
        self.seed: int = settings["seed"]
        self.channel = channel
        self.engine = Engine(self.detector, official=settings["official"])

    def run(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Showers start..stop − 1: energies (n, V) and CPU seconds (n,)."""
        numbers = np.arange(start, stop, dtype=np.int64)
        conditions = self.beam.conditions(self.detector.name, self.seed, numbers)
        energies = np.zeros((len(numbers), self.mesh.n_voxels), dtype=np.float32)
        seconds = np.zeros(len(numbers), dtype=np.float32)

        def done(event: Any) -> None:
            i = event.number - start
            energies[i] = finish(
                score(event, self.detector, self.mesh, float(conditions.phi[i])), self.detector
            )
            seconds[i] = event.cpu_seconds
            self.channel.send({"shower": event.number})

        self.engine.run(conditions, numbers, self.seed, done)
        check_energies(energies, "Geant4", start)
        return energies, seconds


def work(channel: Channel) -> None:
    """Make chunks until there are no more orders."""
    orders = iter(channel)
    simulation = _Simulation(next(orders), channel)
    channel.send({"ready": True})
    for order in orders:
        start, stop = order["start"], order["stop"]
        energies, seconds = simulation.run(start, stop)
        packed = PackedEnergies.pack(energies, start)
        Chunk(start, stop, Path(order["path"])).write({"seconds": seconds, **packed.columns()})
        channel.send({"chunk": start})


if __name__ == "__main__":
    serve_and_leave(work)
