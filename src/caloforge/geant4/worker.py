"""A worker process: runs chunks of showers with Geant4 and stores each in a file of its own.

Started by `caloforge.geant4.simulate` as ``python -m caloforge.geant4.worker``. One line of JSON comes in
with the settings, then one per chunk; one line goes out per event and per finished chunk. Everything that
Geant4 prints goes to stderr. At the end of its input the worker stops.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.beam import Beam
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.geant4.chunks import write_chunk

if TYPE_CHECKING:
    from caloforge.geant4.engine import Event

__all__ = ["finish", "main", "score"]


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


class _Chunks:
    """Runs chunks on one engine."""

    def __init__(self, settings: dict[str, Any], reply: Any) -> None:
        from caloforge.geant4.engine import Engine

        self.detector = Detector.from_dict(settings["detector"])
        self.mesh: Mesh = mesh_from_dict(settings["mesh"])
        self.beam = Beam.from_dict(settings["beam"])
        self.seed: int = settings["seed"]
        self.reply = reply
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
            self.reply({"shower": event.number})

        self.engine.run(conditions, numbers, self.seed, done)
        return energies, seconds


def main() -> int:
    """Serve chunks until the input ends; returns the exit status."""
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # nothing in Geant4 may wait for an answer
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        settings = json.loads(commands.readline())
        chunks = _Chunks(settings, reply)
        reply({"ready": True})
        for line in commands:
            order = json.loads(line)
            energies, seconds = chunks.run(order["start"], order["stop"])
            write_chunk(Path(order["path"]), energies, seconds)
            reply({"chunk": order["chunk"]})
    except BrokenPipeError:  # the parent is gone; the chunks that are complete stay
        return 1
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        reply({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Geant4's own clean-up at exit frees what Python still holds
