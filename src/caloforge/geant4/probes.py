"""Measurements on Geant4 itself, each in a process of its own, which `caloforge.geant4.validate` starts.

They use Python callbacks at every step and are slow.
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import geant4_pybind as g4
import numpy as np

from caloforge.data.beam import Beam
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import mesh_from_dict
from caloforge.geant4.engine import Engine, Event
from caloforge.geant4.worker import score
from caloforge.runtime.processes import Channel, serve_and_leave

__all__ = ["work"]

ELECTRON_MASS = 0.51099895  # MeV, CODATA 2018


class _Tally:
    """Sums over one event: deposits by material (MeV), energy that leaves the world (MeV), steps, tracks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.deposits: Counter[str] = Counter()
        self.tracks: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.leaving = 0.0


class _Steps(g4.G4UserSteppingAction):  # type: ignore[misc]
    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self.tally = tally

    def UserSteppingAction(self, step: Any) -> None:
        tally, definition = self.tally, step.GetTrack().GetDefinition()
        tally.deposits[str(step.GetPreStepPoint().GetMaterial().GetName())] += step.GetTotalEnergyDeposit()
        tally.steps["neutral" if definition.GetPDGCharge() == 0 else "charged"] += 1
        end = step.GetPostStepPoint()
        if end.GetStepStatus() == g4.fWorldBoundary:
            tally.leaving += end.GetKineticEnergy()
            if definition.GetParticleName() == "e+":  # made from 2 m c², which stays with it
                tally.leaving += 2 * ELECTRON_MASS


class _Tracks(g4.G4UserTrackingAction):  # type: ignore[misc]
    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self.tally = tally

    def PreUserTrackingAction(self, track: Any) -> None:
        if track.GetParentID() > 0:
            self.tally.tracks[str(track.GetDefinition().GetParticleName())] += 1


def tallies(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Per event: what `_Tally` sums and the incident energy; the 2 m c² of an incident positron are added."""
    tally = _Tally()
    actions = (lambda: _Steps(tally), lambda: _Tracks(tally))
    engine = Engine(
        Detector.from_dict(settings["detector"]),
        official=settings["official"],
        scoring=False,
        actions=actions,
    )
    rows: list[dict[str, Any]] = []

    def done(event: Event) -> None:
        rows.append(
            {
                "deposits": dict(tally.deposits),
                "tracks": dict(tally.tracks),
                "steps": dict(tally.steps),
                "leaving": tally.leaving,
            }
        )
        tally.reset()

    conditions = _run(engine, settings, done)
    for row, energy, code in zip(rows, conditions.energy, conditions.particle, strict=True):
        row["available"] = float(energy) + (2 * ELECTRON_MASS if code == -11 else 0.0)
    return rows


def deposits(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Per event: raw deposits (D, 4) = (energy, x, y, z), entrance, direction, and the flat mesh energies."""
    detector = Detector.from_dict(settings["detector"])
    engine = Engine(detector, official=settings["official"])
    mesh = mesh_from_dict(settings["mesh"])
    rows: list[dict[str, Any]] = []

    def done(event: Event) -> None:
        phi = float(engine.conditions.phi[len(rows)])
        rows.append(
            {
                "number": event.number,
                "deposits": np.column_stack([event.energies, event.positions]).tolist(),
                "entrance": event.entrance.tolist(),
                "direction": event.direction.tolist(),
                "voxels": score(event, detector, mesh, phi).tolist(),
            }
        )

    _run(engine, settings, done)
    return rows


def visible(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Per event: energy in the sensitive layers over the incident energy, and the next random number.

    With ``scoring`` false nothing is recorded, which must not change the random number.
    """
    engine = Engine(
        Detector.from_dict(settings["detector"]),
        official=settings["official"],
        scoring=settings.get("scoring", True),
    )
    rows: list[dict[str, Any]] = []

    def done(event: Event) -> None:
        rows.append({"visible": float(event.energies.sum()), "next": g4.G4UniformRand()})

    conditions = _run(engine, settings, done)
    for row, energy in zip(rows, conditions.energy, strict=True):
        row["fraction"] = row["visible"] / float(energy)
    return rows


def timing(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Process CPU time (s) and incident energy (MeV) of each of ``repetitions`` runs of the same showers.

    What a worker does per shower except for writing: tracking, recording, scoring on the mesh.
    """
    detector = Detector.from_dict(settings["detector"])
    engine = Engine(detector, official=settings["official"], scoring=settings["scoring"])
    mesh = mesh_from_dict(settings["mesh"])

    def done(event: Event) -> None:
        if settings["scoring"]:
            score(event, detector, mesh, 0.0)

    rows = []
    for _ in range(settings["repetitions"] + 1):
        start = time.process_time()
        conditions = _run(engine, settings, done)
        rows.append({"seconds": time.process_time() - start, "energy": float(conditions.energy.sum())})
    return rows[1:]  # the first fills Geant4's tables


def _run(engine: Engine, settings: dict[str, Any], done: Any) -> Any:
    numbers = np.asarray(settings["numbers"], dtype=np.int64)
    conditions = Beam.from_dict(settings["beam"]).conditions(engine.detector.name, settings["seed"], numbers)
    engine.run(conditions, numbers, settings["seed"], done)
    return conditions


PROBES = {"tallies": tallies, "deposits": deposits, "visible": visible, "timing": timing}


def work(channel: Channel) -> None:
    """Answer one request."""
    settings = next(iter(channel))
    channel.send({"rows": PROBES[settings["probe"]](settings)})


if __name__ == "__main__":
    serve_and_leave(work)
